"""Family ssm."""

from attime.attention.ssm.diagonal import Diagonal
from attime.attention.ssm.lssl import LSSL
from attime.attention.ssm.selective import Selective

__all__ = ["LSSL", "Diagonal", "Selective"]
