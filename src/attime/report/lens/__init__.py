"""A look at attention over time, as one page that needs nothing else."""

from attime.report.lens.page import Axis, Look, Seen, look_page, write_look

__all__ = ["Axis", "Look", "Seen", "look_page", "write_look"]
