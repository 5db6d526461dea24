"""Family testtime."""

__all__: list[str] = []
