"""Test-time learning: a regression solved inside the layer, step by step or at once."""

from attime.attention.testtime.local_linear import LocalLinear
from attime.attention.testtime.neural_memory import NeuralMemory
from attime.attention.testtime.robust_memory import RobustMemory

__all__ = ["LocalLinear", "NeuralMemory", "RobustMemory"]
