"""Room hub: the one place where attime meets transformers and diffusers."""

from attime.hub.attached import Attached, attach
from attime.hub.attending import attending
from attime.hub.guided import Guided, guide
from attime.hub.located import sites
from attime.hub.steered import Steered, steer
from attime.hub.watched import Record, Watched, watch

__all__ = [
    "Attached",
    "Guided",
    "Record",
    "Steered",
    "Watched",
    "attach",
    "attending",
    "guide",
    "sites",
    "steer",
    "watch",
]
