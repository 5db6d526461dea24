"""`attach(model, policy)`: any transformers language model reads its past through a memory policy, until detached."""

import hashlib
from contextlib import ExitStack
from functools import cached_property
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attime.errors import AttimeError
from attime.hub.cache import MemoryCache
from attime.hub.lag import Lags
from attime.hub.own_attention import own_attention
from attime.hub.past_attention import past_attention
from attime.hub.probe import rotations
from attime.hub.reach import check_reach, find_reach
from attime.hub.rotary import Clock
from attime.hub.told import check_told, fed
from attime.memory.chained import Chain, chain
from attime.memory.contract import Policy
from attime.memory.rotary import Rotary

__all__ = ["Attached", "attach"]

TOLD = ("rope_parameters", "no_rope_layers", "layer_types", "sliding_window")


def attach(model: PreTrainedModel, policy: Policy | None = None) -> "Attached":
    """Put a memory policy under a model of transformers: `with attach(model, SinkWindow()): model.generate(...)`.

    Works for decoder-only language models and the text towers of vision-language models. `cache()` makes a cache for a
    conversation of several turns; without one every forward and generate starts afresh. `detach()`, or leaving the
    `with`, restores the model. Under torch.compile a model with a cache given runs with the same numbers: its layers are
    compiled up to and from their attention, and the attention over the past, which grows, runs as it is.
    """
    return Attached(model, policy if isinstance(policy, Chain) else chain(*([] if policy is None else [policy])))


class Attached:
    """A model with a memory policy under it; see `attach`."""

    def __init__(self, model: PreTrainedModel, policy: Chain) -> None:
        self.model, self.policy = model, policy
        self.text = text_part(model)
        self.rotate = rotations(self.text)
        if policy.evidence().rotary:
            _check_positions(model, policy, self.rotate)
        self.reach, self.device = find_reach(self.text), next(model.parameters()).device
        with ExitStack() as undo:
            undo.enter_context(own_attention(self.text, past_attention))
            self.clock = Clock(self.text)
            undo.callback(self.clock.stop)
            self.lags = Lags(model)
            undo.callback(self.lags.stop)
            undo.callback(model.register_forward_pre_hook(self._supply, with_kwargs=True).remove)
            undo.callback(model.register_forward_hook(self._ended, with_kwargs=True).remove)
            self._undo = undo.pop_all()

    def cache(self) -> MemoryCache:
        """An empty cache under this policy."""
        return MemoryCache.empty(self.policy, self.rotate, self.clock, model=self.fingerprint)

    def load(self, path: str | Path) -> MemoryCache:
        """A cache that `save` wrote, for this model and this policy; AttimeError for a damaged or foreign file."""
        return self.cache().restore(path, device=self.device)

    @cached_property
    def fingerprint(self) -> str:
        """Of the model as it was first asked for: a memory is of no use to another one."""
        return fingerprint(self.model, self.text)

    def detach(self) -> None:
        """Give the model its own attention back; a second call does nothing."""
        self._undo.close()

    def __enter__(self) -> "Attached":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def _supply(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A forward without a cache, or with the empty one that generate() makes, gets one of ours."""
        if len(args) > 1:
            args, kwargs = (), dict(zip(signature(model.forward).parameters, args, strict=False)) | kwargs
        given = kwargs.get("past_key_values")
        if given is None or (not isinstance(given, MemoryCache) and given.get_seq_length() == 0):
            kwargs = {**kwargs, "past_key_values": self.cache()}
            if given is not None:  # generate() has just found it
                self.lags.take(kwargs["past_key_values"])
        elif not isinstance(given, MemoryCache):
            raise AttimeError(
                f"a model with a memory attached needs a cache made by its cache(); got a {type(given).__name__} with "
                f"{given.get_seq_length()} tokens: start the conversation again, or detach first."
            )
        else:
            if given.memory[0].clock is not self.clock:
                self._take_over(given)
            given.check()
        cache: MemoryCache = kwargs["past_key_values"]
        tokens = fed(args, kwargs)
        check_told(tokens, kwargs, cache.rows)  # pyright: ignore[reportCallIssue]
        if self.reach is not None and tokens is not None:
            check_reach(self.reach, cache.get_seq_length(), tokens.shape[1], kwargs)  # pyright: ignore[reportCallIssue]
        self.lags.hand(cache)
        cache.begun = cache.get_seq_length()
        return args, kwargs

    def _ended(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A forward has gone to its end."""
        kwargs["past_key_values"].begun = None

    def _take_over(self, given: MemoryCache) -> None:
        """A cache of an attach() before this one goes on, if it was the same model under the same policy."""
        ours, theirs = repr(self.policy), repr(given.memory[0].policy)
        if given.model != self.fingerprint or ours != theirs:
            what = (
                f"policy, {theirs} and not {ours}" if given.model == self.fingerprint else "model, or of other weights"
            )
            raise AttimeError(
                f"a model with a memory attached needs a cache made by its cache(); got one of another {what}: start again with "
                f"a cache() of this one."
            )
        given.belongs(self.clock, self.rotate)


def _check_positions(model: nn.Module, policy: Chain, rotate: list[Rotary | None]) -> None:
    """Raise if the policy moves keys and the model has no rotary positions, or some that attime does not know."""
    if all(each is not None and each.way != "unknown" for each in rotate):
        return
    rest = [left for each in policy.policies if (left := each.unmoved()) is not None]
    what = "has none" if all(each is None for each in rotate) else "turns its keys in a way that attime does not know"
    instead = f"use '{' + '.join(map(repr, rest))}'" if rest else "attach without it"
    raise AttimeError(
        f"{' + '.join(map(repr, policy.policies))} moves keys along rotary positions, and {type(model).__name__} {what}: {instead}."
    )


def fingerprint(model: PreTrainedModel, text: PreTrainedModel) -> str:
    """Class, size, and a sum over some numbers of every parameter and over what the configuration says of attention."""
    known = [f"{name}={getattr(text.config, name, None)!r}" for name in TOLD]
    some = [_some(each) for each in model.parameters() if not each.is_meta]
    numbers = torch.cat([each.to(some[0].device) for each in some]).cpu().numpy().tobytes() if some else b""
    digest = hashlib.sha256(numbers + "".join(known).encode()).hexdigest()
    return f"{type(model).__name__}-{model.num_parameters()}-{digest[:16]}"


def _some(weights: Tensor) -> Tensor:
    flat = weights.detach().flatten()
    return flat[:: max(1, len(flat) // 8)].double()


def text_part(model: PreTrainedModel, *, who: str = "attach") -> PreTrainedModel:
    """The decoder whose layers hold the past: the model's own, or the text tower of a vision-language model.

    `who` asks, and is named in the AttimeError for a model without a decoder.
    """
    whole = isinstance(model, PreTrainedModel) and not getattr(model.config, "is_encoder_decoder", False)
    text = model.get_decoder() if whole else None
    if not isinstance(text, PreTrainedModel) or not hasattr(text.config, "num_hidden_layers"):
        raise AttimeError(
            f"{who} needs a language model of transformers with a decoder (Llama, Qwen, Mistral, Gemma, GPT-NeoX, Qwen2.5-VL, "
            f"LLaVA-OneVision, ...); got a {type(model).__name__}."
        )
    return text
