"""Family sparse."""

__all__: list[str] = []
