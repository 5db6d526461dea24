"""The errors attime raises: one sentence that says what was expected, what came and what to do."""

__all__ = ["AttimeError", "MissingData", "MissingExtra"]


class AttimeError(ValueError):
    """A mistake in what the user passed; the message says how to mend it."""


class MissingData(AttimeError):
    """A public data set is neither on this machine nor to be fetched from here."""


class MissingExtra(AttimeError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the package {package}; install it with: pip install 'attime[{extra}]'")
