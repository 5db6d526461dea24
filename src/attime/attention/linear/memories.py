r"""Mixture of memories: a router sends each token to a few of several gated-delta states; one more sees every token.

    s = softmax(W_g x),  w = top-k of s, made to sum to one
    M_e <- a_e (I - b_e k_e k_e^T) M_e + b_e k_e v_e^T  for the chosen e alone      o = sum_e w_e M_e^T q + M_all^T q_all

Source:  MoM, arXiv 2502.13685, sec. 3 (router, memory update, shared memory); update rule of arXiv 2412.06464.
Names:   our `memories` are their M, `top` their k; `shared` is the memory that every token writes.
Cost:    time O(T (k + 1) d^2); state (E + 1) d^2 per head. A token is worked on only by the memories that it chose.
Differs: q, k and v pass a short convolution over the tokens of their own memory, as in the released code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Cost, Mixer, Traits
from attime.attention.heads import join_heads, per_head
from attime.attention.kernels.delta import recur_delta
from attime.attention.short_conv import short_conv
from attime.attention.state import State, state_dtype
from attime.errors import AttimeError

__all__ = ["MixtureOfMemories", "load_balance"]

Scores = Float[Tensor, "batch time memories"]


def load_balance(scores: Scores, *, top: int, valid: Bool[Tensor, "batch time"] | None = None) -> Float[Tensor, ""]:
    """E sum_e (share of tokens sent to e) (mean score of e): `top` when all memories are used alike, more if not.

    The auxiliary loss of Switch Transformers, which the paper adds with weight 0.01; `scores` come from `route`.
    """
    rows = scores.flatten(0, 1) if valid is None else scores[valid]
    share = torch.zeros_like(rows).scatter(1, rows.topk(top, dim=1).indices, 1.0).mean(0)
    return scores.shape[2] * (share * rows.mean(0)).sum()


@dataclass(frozen=True)
class MemoriesState(State):
    """Per memory, the shared one last: the last inputs of its convolution, and its matrix."""

    past: Float[Tensor, "batch memories before channels"]
    memory: Float[Tensor, "batch memories heads head_dim head_dim"]


@final
class MixtureOfMemories(Mixer):
    """Routed gated-delta memories (see the module docstring)."""

    traits: ClassVar[Traits] = Traits(bounded=True)

    def __init__(
        self, dim: int, *, heads: int = 2, memories: int = 4, top: int = 2, shared: bool = True, width: int = 4
    ) -> None:
        super().__init__()
        if not 1 <= top <= memories:
            raise AttimeError(f"MixtureOfMemories needs 1 <= top <= memories; got top={top}, memories={memories}.")
        self.dim, self.heads, self.head_dim = dim, heads, per_head(dim, heads, who="MixtureOfMemories")
        self.memories, self.top, self.shared, self.width = memories, top, shared, width
        self.router = nn.Linear(dim, memories, bias=False)
        self.inputs = nn.Linear(dim, 2 * dim, bias=False)  # query and output gate, the same for all memories
        sizes = (dim, 2 * dim + 2 * heads)  # key, value, beta, decay
        self.writes = nn.ModuleList(nn.Linear(*sizes, bias=False) for _ in range(memories + shared))
        self.taps = nn.Parameter(torch.empty(3 * dim, width))
        self.log_rate = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        step = torch.empty(heads).uniform_(-6.9, -2.3).exp()  # 0.001 to 0.1
        self.bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
        self.norm = nn.Parameter(torch.ones(self.head_dim))
        self.output = nn.Linear(dim, dim, bias=False)
        nn.init.uniform_(self.taps, -(width**-0.5), width**-0.5)

    def route(self, x: Float[Tensor, "batch time dim"]) -> tuple[Scores, Bool[Tensor, "batch time memories"], Scores]:
        """Weight of each memory in each token's output, which memories it chose, and the scores before the choice."""
        with torch.autocast(x.device.type, enabled=False):  # a choice should not hang on rounding
            logits = F.linear(x.to(state_dtype(x.dtype)), self.router.weight.to(state_dtype(x.dtype)))
        scores = logits.softmax(-1)
        best, place = scores.topk(self.top, dim=-1)
        weights = torch.zeros_like(scores).scatter(-1, place, best / best.sum(-1, keepdim=True))
        return weights, torch.zeros_like(scores, dtype=torch.bool).scatter(-1, place, True), scores

    def begin(self, x: Tensor) -> MemoriesState:
        rows = (x.shape[0], self.memories + self.shared)
        past = x.new_zeros(*rows, self.width - 1, 3 * self.dim)
        size = (*rows, self.heads, self.head_dim, self.head_dim)
        return MemoriesState(past, torch.zeros(size, device=x.device, dtype=state_dtype(x.dtype)))

    def mix(self, x: Tensor, state: MemoriesState, valid: Tensor | None) -> tuple[Tensor, MemoriesState]:
        weights, chosen, _ = self.route(x)
        q, gate = self.inputs(x).chunk(2, dim=-1)
        everyone = valid if valid is not None else x.new_ones(x.shape[:2], dtype=torch.bool)
        # Pack each memory's tokens to the front, so that all memories work at once on short rows.
        mine = (chosen & everyone[..., None]).mT
        longest = max(1, int(mine.sum(2).max()))
        order = (~mine).to(torch.int8).argsort(dim=2, stable=True)[..., :longest]
        mine, weights = mine.gather(2, order), weights.mT.gather(2, order)
        packed = torch.cat([x, q], dim=-1)[:, None].expand(-1, self.memories, -1, -1)
        packed = packed.gather(2, order[..., None].expand(-1, -1, -1, packed.shape[-1]))
        few = slice(0, self.memories)
        out, past, memory = self._remember(packed, mine, few, state)
        out = (out * (weights * mine)[..., None]).flatten(1, 2)
        place = order.flatten(1, 2)[..., None].expand_as(out)
        out = out.new_zeros(*x.shape[:2], self.dim).scatter_add(1, place, out)
        if self.shared:
            every = slice(self.memories, None)
            packed = torch.cat([x, q], dim=-1)[:, None]
            more, late, last = self._remember(packed, everyone[:, None], every, state)
            out = out + more[:, 0]
            past, memory = torch.cat([past, late], dim=1), torch.cat([memory, last], dim=1)
        return self._emit(out, gate), MemoriesState(past, memory)

    def _remember(
        self, packed: Tensor, mine: Tensor, which: slice, state: MemoriesState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each memory's own tokens (batch memories time channels), valid first, through its gated delta rule."""
        x, q = packed.chunk(2, dim=-1)
        past, memory = state.past[:, which], state.memory[:, which]
        shape = past.shape[:2]
        key, value, beta, slow = self._written(x.unbind(1), which)
        mine = mine.flatten(0, 1)
        mixed = torch.cat([q, key, value], dim=-1).flatten(0, 1)
        mixed, past = short_conv(mixed, self.taps, past.flatten(0, 1), mine)
        log_decay, beta = (each.flatten(0, 1).mT for each in self._gates(slow, beta))
        q, k, v = (each.transpose(1, 2) for each in self._act(mixed))
        out, memory = recur_delta(q, k, v, log_decay * mine[:, None], beta * mine[:, None], memory.flatten(0, 1))
        return join_heads(out).unflatten(0, shape), past.unflatten(0, shape), memory.unflatten(0, shape)

    def _written(self, x: Sequence[Tensor], which: slice) -> tuple[Tensor, ...]:
        """Key, value, beta and decay of each memory, before their activations; `x` has one entry per memory."""
        written = torch.stack([write(each) for write, each in zip(self.writes[which], x, strict=True)], dim=1)
        return written.split([self.dim, self.dim, self.heads, self.heads], dim=-1)

    def _gates(self, slow: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        wide = state_dtype(slow.dtype)
        log_decay = -self.log_rate.to(wide).exp() * F.softplus(slow.to(wide) + self.bias.to(wide))
        return log_decay, beta.to(wide).sigmoid()

    def _act(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)) for each in F.silu(mixed.to(state_dtype(mixed.dtype))).chunk(3, -1)
        )
        return F.normalize(q, dim=-1) * self.head_dim**-0.5, F.normalize(k, dim=-1), v

    def _emit(self, out: Tensor, gate: Tensor) -> Tensor:
        out = F.rms_norm(out.unflatten(-1, (self.heads, -1)), (self.head_dim,), self.norm.to(out.dtype))
        return self.output(out.flatten(-2).to(gate.dtype) * F.silu(gate))

    def reference(self, x: Tensor) -> Tensor:
        state = self.begin(x)
        window, memory, outputs = state.past, state.memory, []
        weights, chosen, _ = self.route(x)
        queries, gate = self.inputs(x).chunk(2, dim=-1)
        if self.shared:
            weights, chosen = F.pad(weights, (0, 1), value=1.0), F.pad(chosen, (0, 1), value=True)
        for t in range(x.shape[1]):
            key, value, beta, slow = self._written([x[:, t]] * len(self.writes), slice(None))
            new = torch.cat([queries[:, t, None].expand_as(key), key, value], dim=-1)
            seen = torch.cat([window, new[:, :, None]], dim=2)
            q, k, v = self._act(torch.einsum("b e w c, c w -> b e c", seen, self.taps))
            log_decay, beta = self._gates(slow, beta)
            kept = log_decay.exp()[..., None, None] * memory
            error = v - torch.einsum("b e h i, b e h i j -> b e h j", k, kept)
            kept = kept + beta[..., None, None] * k[..., :, None] * error[..., None, :]
            writes = chosen[:, t]
            memory = torch.where(writes[:, :, None, None, None], kept, memory)
            window = torch.where(writes[:, :, None, None], seen[:, :, 1:], window)
            read = torch.einsum("b e h i, b e h i j -> b e h j", q, memory).flatten(-2)
            outputs.append((weights[:, t, :, None] * read).sum(1))
        return self._emit(torch.stack(outputs, dim=1), gate)

    def cost(self, length: int, dtype: torch.dtype = torch.float32) -> Cost:
        matrix = self.heads * self.head_dim**2
        one = matrix * state_dtype(dtype).itemsize + 3 * self.dim * (self.width - 1) * dtype.itemsize
        used = self.top + self.shared
        operations = used * (9 * matrix + 6 * self.dim * self.width)
        return Cost(operations=operations, state_bytes=(self.memories + self.shared) * one, read_bytes=used * one)

    @classmethod
    def examples(cls) -> Sequence["MixtureOfMemories"]:
        return [cls(8), cls(12, heads=3, memories=3, top=2, shared=False, width=3)]
