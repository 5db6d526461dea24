"""attime: attention over time, as parts that run."""

__version__ = "0.1.0"
