r"""A side network: a frozen language model fills a memory, and a trainable one of half its depth beside it reads there.

    H^0 = embeddings of the frozen model      H^l = f_l(H^{l-1}) + (H_frozen^{2l} - H_frozen^{2l-2})      logits = head(norm(H^{depth/2}))

In one layer f attends to the segment and, in a softmax of its own, to what its queries bring back from the memory, mixed by a
gate per head. The memory takes in keys and values of one frozen layer, without positions, after the segment has been read.

Source:  LongMem, arXiv 2306.07174, sec. 2.1 to 2.4, and its public code (layer 2l - 1, from 0, begins f_l; the frozen layer 17 of 24,
         side layer 8 of 12; only layers, last norm and gates of the side network learn).
Names:   f is `net`, the memory `memory.retrieve.Chunks`, the mixing `attention.sparse.gated_retrieval.gated`.
Cost:    the frozen model forward, and half of it forward and backward.
Differs: positions are the model's own (learnt, rotary) and not ALiBi. The last residual is taken before the frozen model's
         last norm, as the equation has it; the code's is after it. Each row has its memory.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, PreTrainedModel

from attime.attention.sparse.gated_retrieval import gated
from attime.errors import AttimeError
from attime.hub.attached import text_part
from attime.hub.attending import attending
from attime.hub.probe import rotations
from attime.memory.retrieve.chunks import Remembered

__all__ = ["SideNet"]


@final
class SideNet(nn.Module):
    """Beside a model such as GPT2LMHeadModel or LlamaForCausalLM: `logits = side(segment, memory)` (see the module docstring).

    `layer` is the one whose keys and values are remembered, counted from 0. The model is put into evaluation mode, is not among
    the side network's parameters, and never changes. Rows without padding, one segment after the other; positions begin
    anew with each.
    """

    def __init__(self, model: PreTrainedModel, *, layer: int | None = None) -> None:
        super().__init__()
        text, head = text_part(model, who="SideNet"), model.get_output_embeddings()
        depth, config = int(text.config.num_hidden_layers), copy.deepcopy(text.config)
        layer = 17 * depth // 24 if layer is None else layer
        if depth % 2 or not 0 <= layer < depth or not isinstance(head, nn.Linear):
            raise AttimeError(
                f"SideNet needs a language model with a linear head, an even number of layers, and layer= one of them; got a "
                f"{type(model).__name__} of {depth} layers, layer={layer}."
            )
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * depth
        if set(kinds) != {"full_attention"} or getattr(config, "sliding_window", None):
            raise AttimeError(
                f"SideNet needs a model whose layers all attend to everything; those of {type(model).__name__} do not."
            )
        self._frozen, self.layer, self.joint = (model.eval(), text, head), layer, layer // 2
        self._rotate = rotations(text)[layer]
        config.num_hidden_layers = depth // 2
        if getattr(config, "layer_types", None):
            config.layer_types = kinds[1::2]
        with torch.random.fork_rng(devices=[]):
            self.net: Any = type(text)(config)
        self.net.set_input_embeddings(nn.Identity())
        self.net.requires_grad_(False)
        learnt = zip([*_layers(self.net), _norm(self.net)], [*_layers(text)[1::2], _norm(text)], strict=True)
        for ours, theirs in learnt:
            ours.load_state_dict(theirs.state_dict())
            ours.requires_grad_(True)
        self.net.to(next(text.parameters()))
        self.gate = nn.Parameter(torch.zeros(int(config.num_attention_heads), device=head.weight.device))

    def forward(
        self, tokens: Int[Tensor, "batch time"], memory: Remembered | None = None
    ) -> Float[Tensor, "batch time kinds"]:
        """Logits after every token of a segment, with what the memory has of earlier ones; then it takes this one in."""
        start, steps, keys, values = self._read(tokens)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
            near = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
            if memory is None or layer != self.joint:
                return near
            found = memory.recall(bare := self._bare(q))
            return near if found is None else gated(near, bare, *found, self.gate, scale=scale)

        layers = _layers(self.net)
        with ExitStack() as stack:
            stack.enter_context(attending(self.net, attend))
            stack.callback(layers[0].register_forward_pre_hook(lambda _, args: (start, *args[1:])).remove)
            for each, step in zip(layers, steps, strict=True):
                stack.callback(each.register_forward_hook(partial(_add, step)).remove)
            hidden = self.net(inputs_embeds=start, use_cache=False).last_hidden_state
        if memory is not None:
            memory.add(keys, values)
        head = self._frozen[2]
        return F.linear(hidden, head.weight.detach(), None if head.bias is None else head.bias.detach())

    def remember(self, tokens: Int[Tensor, "batch time"], memory: Remembered) -> None:
        """The memory takes a segment in, and nobody asks what comes after its tokens."""
        memory.add(*self._read(tokens)[2:])

    @torch.no_grad()
    def _read(self, tokens: Tensor) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
        """What the frozen model makes of a segment: embeddings, what each two layers add, keys and values to remember."""
        _, text, _ = self._frozen
        cache = DynamicCache()
        with _hidden(text) as hidden:
            text(tokens, past_key_values=cache, use_cache=True)
        held: Any = cache.layers[self.layer]
        return hidden[0], [after - before for before, after in pairwise(hidden)], self._bare(held.keys), held.values

    def _bare(self, turned: Float[Tensor, "batch heads time head_dim"]) -> Float[Tensor, "batch heads time head_dim"]:
        """Queries or keys of a segment without their positions."""
        if self._rotate is None:
            return turned
        flat = turned.flatten(0, 1)
        back = -torch.arange(flat.shape[1], device=flat.device).expand(len(flat), -1)
        return self._rotate(flat, back).view(turned.shape)


@contextmanager
def _hidden(text: nn.Module) -> Iterator[list[Tensor]]:
    """What goes into the first layer, and what comes out of every second one."""
    layers, seen = _layers(text), list[Tensor]()
    with ExitStack() as stack:
        stack.callback(layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0])).remove)
        for each in layers[1::2]:
            stack.callback(each.register_forward_hook(lambda _, args, out: seen.append(_first(out))).remove)
        yield seen


def _add(step: Tensor, module: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
    return (out[0] + step, *out[1:]) if isinstance(out, tuple) else out + step


def _first(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def _layers(text: nn.Module) -> nn.ModuleList:
    found = [each for each in text.children() if isinstance(each, nn.ModuleList)]
    if len(found) != 1:
        raise AttimeError(f"SideNet needs a model with one list of layers; {type(text).__name__} has {len(found)}.")
    return found[0]


def _norm(text: nn.Module) -> nn.Module:
    """The norm after the last layer."""
    found = [each for each in text.children() if "norm" in type(each).__name__.lower()]
    if len(found) != 1:
        raise AttimeError(f"SideNet needs a model with a norm after its layers; {type(text).__name__} has none.")
    return found[0]
