"""Room zoo: small models of the real classes of transformers and diffusers, trained by us, weights in the package."""

from attime.zoo.contract import Goal, Pretrained
from attime.zoo.store import find, load, names, save

__all__ = ["Goal", "Pretrained", "find", "load", "names", "save"]
