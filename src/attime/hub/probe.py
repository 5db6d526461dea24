"""How a model uses positions in its keys, and whether it attends as a memory does: found by feeding it a few tokens.

The same tokens, each alone, are read at two positions: a layer's keys then differ by the way in which it turns them, and
by nothing else. Four tokens are read with the model's own attention and with a memory that keeps all: the same must come.
The model is left as it was; what has been found is remembered for as long as the model lives.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from attime.errors import AttimeError
from attime.hub.cache import MemoryCache
from attime.hub.own_attention import free, its_own_attention, own_attention
from attime.hub.past_attention import past_attention
from attime.hub.rotary import Clock, changes, frequencies
from attime.memory.chained import chain
from attime.memory.rotary import Rotary, Way

__all__ = ["layer_kinds", "rotations"]

FOUND: WeakKeyDictionary[nn.Module, tuple[str, list[Way]]] = WeakKeyDictionary()
TOKENS, PLACES = 3, (3, 20)
LIBRARIES = ("torch", "transformers", "accelerate")


def layer_kinds(text: PreTrainedModel) -> list[str | None]:
    """The type of every layer; AttimeError where one has something else than keys and values of its own."""
    config = text.config
    kinds = list(getattr(config, "layer_types", None) or [None] * config.num_hidden_layers)
    other = sorted({str(kind) for kind in kinds} - {"None", "full_attention", "sliding_attention", "chunked_attention"})
    if other or not getattr(config, "num_attention_heads", None):
        raise AttimeError(
            f"a memory needs a model whose layers all attend to keys and values; those of {type(text).__name__} are "
            f"{', '.join(other) or 'of another kind'}: use it without a memory."
        )
    return kinds


def rotations(text: PreTrainedModel) -> list[Rotary | None]:
    """How each layer turns its keys from one position to another; all None if the model has no rotary positions."""
    free(text, past_attention)
    kinds = layer_kinds(text)
    turning = [frequencies(text, kind) for kind in kinds]
    if any(
        each.is_meta and not hasattr(part, "_hf_hook") for part in text.modules() for each in part.parameters(False)
    ):
        ways: list[Way] = ["halves"] * len(kinds)
    else:
        ways = _known(text, kinds, turning)
    made: dict[tuple[int, Way], Rotary] = {}
    ways = ["unknown" if changes(text, kind) else way for way, kind in zip(ways, kinds, strict=True)]
    return [
        None if each is None else made.setdefault((id(each), way), Rotary(each, way))
        for way, each in zip(ways, turning, strict=True)
    ]


def _known(text: PreTrainedModel, kinds: list[str | None], turning: list[Tensor | None]) -> list[Way]:
    told = [text.dtype, *(getattr(text.config, name, None) for name in ("rope_parameters", "no_rope_layers"))]
    state = repr([kinds, *told])
    if text not in FOUND or FOUND[text][0] != state:
        FOUND[text] = state, _probed(text, turning)
    return FOUND[text][1]


@torch.no_grad()
def _probed(text: PreTrainedModel, turning: list[Tensor | None]) -> list[Way]:
    words = text.get_input_embeddings()
    kinds, device = int(cast(Any, words).num_embeddings), cast(Tensor, words.weight).device
    ids = (torch.arange(1, 5, device=device) * 7 % kinds)[None]
    with _undisturbed(text, device):
        with its_own_attention(text):
            try:
                plain = text.forward(input_ids=ids, use_cache=False)[0]
            except Exception:  # a decoder that cannot be called with words alone is not tried
                return ["unknown"] * len(turning)
        with own_attention(text, past_attention):
            _agrees(text, ids, plain)
            if all(each is None for each in turning):
                return ["nothing"] * len(turning)
            return _ways(text, ids[0, :TOKENS, None], turning)


def _agrees(text: PreTrainedModel, ids: Tensor, plain: Tensor) -> None:
    """Raise if the model is another one with a memory that keeps everything."""
    name = type(text).__name__
    try:
        with _memory(text) as cache:
            ours = text.forward(input_ids=ids, past_key_values=cache, use_cache=True)[0]
    except AttimeError:
        raise
    except Exception as error:
        why = str(error).split("\n")[0] or type(error).__name__
        raise AttimeError(
            f"a memory needs layers that attend to keys and values through transformers' attention interface and cache; a try "
            f"of {name} on four tokens ended with '{why}': use it without a memory."
        ) from error
    silent = [layer.layer for layer in cache.memory if layer.columns != ids.shape[1]]
    if silent:
        raise AttimeError(
            f"a memory needs layers that attend through transformers' attention interface; layers {silent} of {name} do not: use "
            f"it without a memory."
        )
    off = float((ours - plain).double().norm() / plain.double().norm())
    if bool(plain.isfinite().all()) and plain.norm() > 0 and not off < (0.25 if plain.dtype.itemsize < 4 else 0.01):
        raise AttimeError(
            f"a memory that keeps everything should change nothing, and four tokens through {name} came out {off:.0%} off, so "
            f"its attention does more than attime knows of: use it without a memory."
        )


def _ways(text: PreTrainedModel, ids: Tensor, turning: list[Tensor | None]) -> list[Way]:
    """The way of each layer, from the keys of tokens that stand alone at two positions."""
    positions = torch.tensor(PLACES, device=ids.device).repeat_interleave(TOKENS)[:, None]
    with _memory(text) as cache:
        try:
            text.forward(input_ids=ids.repeat(2, 1), position_ids=positions, past_key_values=cache, use_cache=True)
        except Exception:  # positions are not for the caller to say
            return ["unknown"] * len(turning)
    found = []
    for layer, angles in zip(cache.memory, turning, strict=True):
        keys = layer.pasts[0][1].banks[0].keys().unflatten(0, (2, -1)).squeeze(2)
        found.append("nothing" if angles is None else _way(keys[0], keys[1], angles))
    return found


def _way(here: Tensor, there: Tensor, angles: Tensor) -> Way:
    """Which turn brings keys (lanes, head_dim) from the first of the places to the second."""
    if not here.any() or 2 * len(angles) > here.shape[-1]:
        return "halves" if 2 * len(angles) <= here.shape[-1] else "unknown"
    shift = torch.full((len(here), 1), PLACES[1] - PLACES[0], device=here.device)
    exact = here.double()[:, None]
    off = {way: float((Rotary(angles, way)(exact, shift)[:, 0] - there).norm() / exact.norm()) for way in WAYS}
    best = min(WAYS, key=lambda way: off[way])
    return best if off[best] < (0.05 if here.dtype.itemsize < 4 else 1e-3) else "unknown"


WAYS: tuple[Way, ...] = ("halves", "pairs", "nothing")


@contextmanager
def _memory(text: PreTrainedModel) -> Iterator[MemoryCache]:
    """A cache that keeps everything, for one forward of the decoder by itself."""
    clock, layers = Clock(text), int(text.config.num_hidden_layers)
    try:
        yield MemoryCache.empty(chain(), [None] * layers, clock, model="")
    finally:
        clock.stop()


@contextmanager
def _undisturbed(text: nn.Module, device: torch.device) -> Iterator[None]:
    """In evaluation, in full precision, not compiled, and without the user's hooks; afterwards all is as it was."""
    modules = list(text.modules())
    training = [part for part in modules if part.training]
    hooks = [each for part in modules for each in (part._forward_pre_hooks, part._forward_hooks) if each]
    kept = [dict(each) for each in hooks]
    with ExitStack() as stack:
        for each, all_of_them in zip(hooks, kept, strict=True):
            stack.callback(each.update, all_of_them)
            stack.callback(each.clear)
            for number, hook in all_of_them.items():
                if not _of_a_library(hook):
                    del each[number]
        for part in training:
            part.training = False
            stack.callback(setattr, part, "training", True)
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if torch.compiler.is_compiling() or any(part._compiled_call_impl is not None for part in modules):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def _of_a_library(hook: object) -> bool:
    own = getattr(hook, "func", hook)
    return str(getattr(own, "__module__", "")).split(".")[0] in LIBRARIES
