"""`with guide(pipeline, control, scale=3.0):` every step goes away from what the model says while a control makes it worse."""

import copy
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from attime.control.call import Call
from attime.control.contract import Control
from attime.errors import AttimeError
from attime.given import is_number
from attime.hub.located import owners
from attime.hub.steered import Under
from attime.site import Chosen

__all__ = ["Guided", "guide"]


def guide(model: object, *controls: Control, scale: float = 3.0, where: Chosen = None) -> "Guided":
    """Inside a `with`, a denoiser runs twice per call, the second time under controls that make it worse, and says
    plain + scale (plain - worse). Guidance by words goes on as ever. A scale of 0 changes nothing, bit for bit.
    """
    return Guided(model, controls, scale, where)


class Guided:
    """A model under guidance; see `guide`."""

    def __init__(self, model: object, controls: tuple[Control, ...], scale: float, where: Chosen) -> None:
        if not controls or not all(isinstance(each, Control) for each in controls) or not is_number(scale) or scale < 0:
            raise AttimeError(
                f"guide needs controls such as PerturbedHeads() and a finite scale >= 0; got {controls or 'none'} and "
                f"scale={scale!r}."
            )
        self.scale = scale
        self._under = [_Worse(model, control, where) for control in controls]
        names = {site.name.split(".")[0] for each in self._under for site in each.sites}
        self._roots = [root for name, root in owners(model).items() if not name or name in names]
        self._inside = False

    def __enter__(self) -> "Guided":
        with ExitStack() as stack:
            for each in self._under:
                stack.enter_context(each)
            for root in self._roots:
                stack.callback(root.register_forward_hook(self._again, with_kwargs=True).remove)
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _again(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], plain: Any) -> Any:
        if self._inside or self.scale == 0:
            return None
        self._inside = True
        try:
            for each in self._under:
                each.on = True
            worse = module(*args, **kwargs)
        finally:
            self._inside = False
            for each in self._under:
                each.on = False
        return _away(plain, worse, self.scale)


class _Worse(Under):
    """A control that acts in the second run alone."""

    on = False

    def controls(self, call: Call) -> list[tuple[Control, dict[str, Any]]]:
        return super().controls(call) if self.on else []


def _away(plain: Any, worse: Any, scale: float) -> Any:
    """The first tensor of what a model returns, moved; the rest as it was in the plain run."""
    if isinstance(plain, Tensor):
        return torch.add(plain, plain - worse, alpha=scale)
    if isinstance(plain, tuple):
        return (_away(plain[0], worse[0], scale), *plain[1:])
    made = copy.copy(plain)
    name = next(iter(plain.keys()))
    made[name] = _away(plain[name], worse[name], scale)
    return made
