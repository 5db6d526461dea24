"""Room objectives."""
