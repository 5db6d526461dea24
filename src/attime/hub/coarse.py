"""`with coarse(pipeline.unet, steps=range(20)):` the deep blocks of a U-Net see pictures of twice the training size as if they
were of the training size (HiDiffusion, arXiv 2311.17528, sec. 3.2, resolution-aware U-Net).

For the chosen steps one downsampling goes by four in place of two (its own weights, dilated by two), and what comes up to its
level is made twice as large again. Outside of these steps, and afterwards, the model is as it was.
"""

from types import TracebackType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.hub.geometry import Geometry
from attime.hub.located import owners

__all__ = ["Coarse", "coarse"]


def coarse(model: object, *, block: int = 0, steps: range | None = None) -> "Coarse":
    """Deepen the downsampling of down block number `block` of a U-Net, alone or in a pipeline, in these steps (None: all)."""
    return Coarse(model, block, steps)


class Coarse:
    """A U-Net whose deep blocks are half as large; see `coarse`."""

    def __init__(self, model: object, block: int, steps: range | None) -> None:
        found = [
            root for root in owners(model).values() if "UNet" in type(root).__name__ and hasattr(root, "down_blocks")
        ]
        if not found:
            raise AttimeError(
                f"coarse needs a U-Net of diffusers or a pipeline with one; got a {type(model).__name__}."
            )
        self.unet: Any = found[0]
        down, up = list(self.unet.down_blocks), list(self.unet.up_blocks)
        last = len(down) - 2
        if not 0 <= block <= last:
            raise AttimeError(
                f"coarse needs a down block that samples down, 0 to {last} in this U-Net; got block={block}."
            )
        self._down = down[block].downsamplers[0]
        self._up = up[last - block].upsamplers[0]
        if not isinstance(getattr(self._down, "conv", None), nn.Conv2d) or self._down.conv.stride != (2, 2):
            raise AttimeError(
                f"coarse needs a downsampling convolution of stride 2 in block {block} of {type(self.unet).__name__}."
            )
        self.steps = steps
        self._geometry = Geometry(self.unet)
        self._hooks: list[Any] = []

    def __enter__(self) -> "Coarse":
        self._geometry.step = -1
        self._geometry.open()
        self._hooks = [
            self._down.conv.register_forward_hook(self._deeper),
            self._up.register_forward_hook(self._larger),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._geometry.close()

    def _acts(self) -> bool:
        return self.steps is None or self._geometry.step in self.steps

    def _deeper(self, module: nn.Conv2d, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        if not self._acts():
            return None
        if args[0].shape[-1] % 4 or args[0].shape[-2] % 4:
            raise AttimeError(
                f"coarse needs {args[0].shape[-2]} x {args[0].shape[-1]} places to be multiples of 4: choose another size or block."
            )
        return F.conv2d(args[0], module.weight, module.bias, stride=4, padding=2, dilation=2, groups=module.groups)

    def _larger(self, module: nn.Module, args: Any, out: Tensor) -> Tensor | None:
        return F.interpolate(out, scale_factor=2, mode="bicubic") if self._acts() else None
