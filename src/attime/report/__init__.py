"""A comparison for people to read: a table in the terminal, Markdown, and one HTML page that needs nothing else."""

from attime.report.page import page, write_page
from attime.report.plain import listing
from attime.report.table import markdown, table

__all__ = ["listing", "markdown", "page", "table", "write_page"]
