"""Family ssm."""

__all__: list[str] = []
