"""A model as plain data: from a line of text and a few numbers to a model, and back from a saved file."""

import ast
import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from attime import attention
from attime.attention.contract import Mixer, Traits
from attime.errors import AttimeError
from attime.models.contract import Model
from attime.models.series import SeriesModel
from attime.models.stack import Block, Stack, hidden_for
from attime.models.tokens import TokenModel

__all__ = ["Recipe", "find_mixer", "mixers"]

FAMILIES = ("softmax", "sparse", "linear", "testtime", "ssm")
NAMED = re.compile(r"^(?:(?P<module>[\w.]+):)?(?P<name>[\w.]+)(?:\((?P<options>.*)\))?$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything needed to build a model again, as JSON-able values.

    `mixer` is an expression: `Decay`, `SlidingWindow(window=128)`, `my_module:MyMixer(order=2)`, or several joined
    by `+`, which alternate over the layers. `block` is the parameters of one block in units of dim^2: the channel
    mixer takes what the mixer leaves, so that models with different mixers have the same size.
    """

    mixer: str
    dim: int = 128
    heads: int = 4
    layers: int = 2
    block: float = 16.0
    vocabulary: int | None = None
    channels: int | None = None
    horizon: int | None = None
    memory: float = 96.0

    def build(self, *, seed: int = 0) -> Model:
        """The model, with weights drawn from `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            makers = [_maker(each) for each in _split(self.mixer)]
            blocks = []
            for layer in range(self.layers):
                kind, options = makers[layer % len(makers)]
                mixer = self._mixer(kind, options, layer)
                blocks.append(Block(mixer, hidden=hidden_for(mixer, budget=round(self.block * self.dim**2))))
            stack = Stack(blocks)
            if self.vocabulary is not None:
                return TokenModel(stack, vocabulary=self.vocabulary)
            if self.channels is None or self.horizon is None:
                raise AttimeError("Recipe needs vocabulary, or channels and horizon; got neither.")
            return SeriesModel(stack, channels=self.channels, horizon=self.horizon, memory=self.memory)

    def _mixer(self, kind: type[Mixer], options: Mapping[str, Any], layer: int) -> Mixer:
        takes = inspect.signature(kind).parameters
        offered = {"heads": self.heads, "layer": layer, "layers": self.layers}
        defaults = {name: value for name, value in offered.items() if name in takes}
        wrong = sorted(set(options) - set(takes))
        if wrong:
            known = ", ".join(name for name in takes if name != "dim")
            raise AttimeError(f"{kind.__name__} has no option {wrong[0]!r}; its options are {known}.")
        mixer = kind(self.dim, **{**defaults, **options})
        if not _streams(mixer.traits):
            raise AttimeError(
                f"{kind.__name__} is not a causal mixer over (batch time dim) that takes padding, so it cannot be compared on "
                f"a stream; choose one of {', '.join(sorted(mixers()))}."
            )
        return mixer


def _streams(traits: Traits) -> bool:
    return traits.causal and traits.valid and not traits.grid


def mixers() -> dict[str, type[Mixer]]:
    """The house's causal mixers over (batch time dim) that take padding, by class name."""
    found: dict[str, type[Mixer]] = {}
    for family in FAMILIES:
        module = importlib.import_module(f"{attention.__name__}.{family}")
        for name in module.__all__:
            kind = getattr(module, name)
            if issubclass(kind, Mixer) and _streams(kind.traits):
                found[name] = kind
    return found


def find_mixer(path: str) -> type[Mixer]:
    """A mixer class by name (`Decay`), import path (`attention.linear.Decay`) or `my_module:MyMixer`."""
    match = NAMED.match(path)
    if match is None:
        raise AttimeError(f"{path!r} is not a mixer; write Name, Name(option=value) or my_module:MyMixer.")
    module, name = match["module"], match["name"]
    if module is None and "." in name:
        module, name = name.rsplit(".", 1)
        module = module if module.startswith("attime.") else f"attime.{module}"
    if module is None:
        known = mixers()
        if name not in known:
            raise AttimeError(
                f"there is no mixer {name!r}; choose from {', '.join(sorted(known))}, or my_module:MyMixer."
            )
        return known[name]
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AttimeError(f"cannot find {name} in {module}: {error}.") from None
    if not (isinstance(kind, type) and issubclass(kind, Mixer)):
        raise AttimeError(f"{module}:{name} is not a Mixer; subclass attime.attention.Mixer.")
    return kind


def _maker(text: str) -> tuple[type[Mixer], dict[str, Any]]:
    match = NAMED.match(text.strip())
    kind = find_mixer(text.strip())
    if match is None or not match["options"]:
        return kind, {}
    try:
        call = ast.parse(f"f({match['options']})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args:
            raise ValueError
        return kind, {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, ValueError):
        raise AttimeError(
            f"the options in {text!r} must read name=value, with plain numbers or words as values."
        ) from None


def _split(expression: str) -> list[str]:
    """Cut at `+` outside brackets."""
    parts = re.split(r"\+(?![^(]*\))", expression)
    if not all(part.strip() for part in parts):
        raise AttimeError(f"{expression!r} is not a mixer; write Name, or Name+Name to alternate over the layers.")
    return parts
