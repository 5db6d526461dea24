"""Family softmax."""

__all__: list[str] = []
