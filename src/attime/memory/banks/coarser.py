"""A frame on a coarser grid: the mean of the cells that fall together."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attime.attention.state import state_dtype

__all__ = ["area", "coarser"]

Frame = Float[Tensor, "height width dim"]


def coarser(frame: Frame, cells: int | None) -> Float[Tensor, "rows columns dim"]:
    """The frame with at most `cells` cells along each side; None: as it is."""
    height, width = frame.shape[:2]
    if cells is None or (height <= cells and width <= cells):
        return frame
    wide = frame.to(state_dtype(frame.dtype)).permute(2, 0, 1)
    pooled = F.adaptive_avg_pool2d(wide, (min(height, cells), min(width, cells)))
    return pooled.permute(1, 2, 0).to(frame.dtype).contiguous()


def area(height: int, width: int, cells: int | None) -> int:
    """Cells of a frame of this grid made coarser."""
    return height * width if cells is None else min(height, cells) * min(width, cells)
