"""Room hub: the one place where attime meets transformers and diffusers."""

from attime.hub.attached import Attached, attach
from attime.hub.attending import attending

__all__ = ["Attached", "attach", "attending"]
