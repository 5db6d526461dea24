"""Family quantize: policies that keep what is older in fewer bits."""

from attime.memory.quantize.quantize import Quantize
from attime.memory.quantize.salience import Salience
from attime.memory.quantize.staircase import Staircase
from attime.memory.quantize.thin_keys import ThinKeys

__all__ = ["Quantize", "Salience", "Staircase", "ThinKeys"]
