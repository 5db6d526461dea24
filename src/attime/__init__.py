"""attime: attention over time, as parts that run."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attime.models.trained import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`attime.load`, imported when first asked for: `import attime` stays light."""
    if name == "load":
        from attime.models.trained import load

        return load
    raise AttributeError(f"module 'attime' has no attribute {name!r}")
