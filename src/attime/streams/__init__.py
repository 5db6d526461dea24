"""Room streams."""
