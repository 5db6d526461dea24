"""Controls of attention in language and vision-language models."""

__all__: list[str] = []
