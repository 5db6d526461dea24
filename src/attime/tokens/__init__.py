"""Room tokens."""
