"""Room hub: the one place where attime meets transformers and diffusers."""

from attime.hub.attached import Attached, attach

__all__ = ["Attached", "attach"]
