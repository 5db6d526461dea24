r"""A small network trained inside the layer: gradient descent with momentum and decay, one step per token.

    z_l = x_{l-1} W_l      x_l = SiLU(z_l) c_l      x_0 = k_t      e_t = z_L - v_t      loss = |e_t|^2 / 2
    S_t = eta_t S_{t-1} - theta_t grad(A; k_t, v_t)      M_t = keep_t M_{t-1} + S_t      o_t = M_t(q_t)

A are the weights at the start of the token's chunk; chunks begin at multiples of `chunk` valid tokens from the first
token of the stream, so `chunk` is part of the equation (with 1 it is plain online descent). Every gradient is a product
of two vectors, so all the M_t of a chunk are read as attention with one matrix of coefficients, and none is formed.

Source:  Titans, arXiv 2501.00663, eq. 8-10 (momentum), 13-14 (decay), sec. 3.2 (chunks).
Names:   our `rate`, exp(`log_momentum`), exp(`log_keep`) are their theta, eta, 1 - alpha; `chunk` is their b.
Cost:    time O(T (chunk + P / width)) products of vectors; state 3 P for P weights (M, S, A).
Differs: loss halved; c_l = sqrt(2.8 / width) keeps features at length one, so that one rate suits every layer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attime.attention.state import State

__all__ = ["Fitted", "descend", "descend_naive"]

LONG = 64  # chunks: longer pasts are computed again in the backward pass, so many at a time
NOTHING = -60.0  # the logarithm of a factor that is as good as zero; differences of lower ones would be too coarse

Heads = Float[Tensor, "batch heads time head_dim"]
Values = Float[Tensor, "batch heads time value_dim"]
Scalars = Float[Tensor, "batch heads time"]


@dataclass(frozen=True)
class Fitted(State):
    """The network after the last token, and what its next steps need. Matrices are `batch heads in out`, by layer."""

    weights: tuple[Float[Tensor, "batch heads _ _"], ...]
    momentum: tuple[Float[Tensor, "batch heads _ _"], ...]
    anchor: tuple[Float[Tensor, "batch heads _ _"], ...]
    """The weights at the start of the chunk, where gradients are taken."""
    filled: Int[Tensor, " batch"]
    """Tokens of the chunk seen so far."""

    @classmethod
    def start(cls, weights: Sequence[Float[Tensor, "batch heads _ _"]]) -> "Fitted":
        """Before the first token: these weights, at rest."""
        weights = tuple(weights)
        filled = torch.zeros(weights[0].shape[0], dtype=torch.long, device=weights[0].device)
        return cls(weights, tuple(torch.zeros_like(each) for each in weights), weights, filled)


def descend_naive(
    q: Heads,
    k: Heads,
    v: Values,
    rate: Scalars,
    log_keep: Scalars,
    log_momentum: Scalars,
    state: Fitted,
    *,
    chunk: int,
    bound: Scalars | None = None,
) -> tuple[Values, Fitted]:
    """The equation, one token at a time."""
    weights, momentum, anchor, filled = list(state.weights), list(state.momentum), list(state.anchor), state.filled
    bounds = [None] * q.shape[2] if bound is None else bound[..., None].unbind(2)
    outputs = []
    tokens = zip(*(x.unbind(2) for x in (q, k, v, rate, log_keep.exp(), log_momentum.exp())), bounds, strict=True)
    for q_t, k_t, v_t, theta, keep, eta, limit in tokens:
        seen, pre = [k_t], []
        for matrix in anchor:
            pre.append(torch.einsum("bhi,bhio->bho", seen[-1], matrix))
            seen.append(torch.nn.functional.silu(pre[-1]) * gain(matrix))
        error = pre[-1] - v_t
        for layer in reversed(range(len(anchor))):
            if limit is not None:
                error = error * limit / torch.maximum(error.norm(dim=-1, keepdim=True), limit)
            step = theta[..., None, None] * seen[layer][..., :, None] * error[..., None, :]
            momentum[layer] = eta[..., None, None] * momentum[layer] - step
            weights[layer] = keep[..., None, None] * weights[layer] + momentum[layer]
            if layer:
                sigmoid = pre[layer - 1].sigmoid()
                slope = sigmoid + pre[layer - 1] * sigmoid * (1 - sigmoid)
                error = torch.einsum("bho,bhio->bhi", error, anchor[layer]) * slope * gain(anchor[layer - 1])
        filled = (filled + 1) % chunk
        fresh = (filled == 0)[:, None, None, None]
        anchor = [torch.where(fresh, new, old) for new, old in zip(weights, anchor, strict=True)]
        x = q_t
        for matrix in weights[:-1]:
            x = torch.nn.functional.silu(torch.einsum("bhi,bhio->bho", x, matrix)) * gain(matrix)
        outputs.append(torch.einsum("bhi,bhio->bho", x, weights[-1]))
    return torch.stack(outputs, dim=2), Fitted(tuple(weights), tuple(momentum), tuple(anchor), filled)


def descend(
    q: Heads,
    k: Heads,
    v: Values,
    rate: Scalars,
    log_keep: Scalars,
    log_momentum: Scalars,
    state: Fitted,
    *,
    chunk: int,
    bound: Scalars | None = None,
    valid: Bool[Tensor, "batch time"] | None = None,
) -> tuple[Values, Fitted]:
    """The same numbers, a chunk of tokens at a time.

    All in the dtype of the state, float32 at least; the logarithms are at most 0. `bound` limits the length of each
    token's error, and of the error handed to each lower layer: the Huber loss, for one layer. `valid` is a prefix of
    each row. The sum of `rate` |k|^2 over a chunk should stay below 2: no step then overshoots. Rows that stand at
    different places of their chunks are cut at every row's boundary.
    """
    kind = q.device.type
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return descend(q, k, v, rate, log_keep, log_momentum, state, chunk=chunk, bound=bound, valid=valid)
    batch, heads, time = rate.shape
    edges, together = _edges(state.filled, time, chunk)
    if len(edges) > LONG + 1 and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return _kept_short(edges[::LONG], (q, k, v, rate, log_keep, log_momentum), state, chunk, bound, valid)
    inputs = [x.flatten(0, 1) for x in (q, k, v, rate, log_keep, log_momentum, *([] if bound is None else [bound]))]
    lives = None if valid is None else valid.repeat_interleave(heads, dim=0)
    if lives is not None:
        inputs[3:6] = [x.masked_fill(~lives, 0) for x in inputs[3:6]]
    sizes = [stop - start for start, stop in pairwise(edges)]
    weights, momentum, anchor = (
        [x.flatten(0, 1) for x in part] for part in (state.weights, state.momentum, state.anchor)
    )
    filled = state.filled.repeat_interleave(heads)
    outputs = []
    for number, (size, *piece) in enumerate(zip(sizes, *(x.split(sizes, dim=1) for x in inputs), strict=True), 1):
        live = None if lives is None else lives[:, edges[number - 1] : edges[number]]
        out, weights, momentum = _segment(weights, momentum, anchor, live, *piece)
        outputs.append(out)
        filled = (filled + (size if live is None else live.sum(1))) % chunk
        if together and live is None and number < len(sizes):
            anchor = weights
        else:
            fresh = ((filled == 0) & (True if live is None else live[:, 0]))[:, None, None]
            anchor = [torch.where(fresh, new, old) for new, old in zip(weights, anchor, strict=True)]
    weights, momentum, anchor = (
        tuple(x.unflatten(0, (batch, heads)) for x in part) for part in (weights, momentum, anchor)
    )
    out = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
    return out.unflatten(0, (batch, heads)), Fitted(weights, momentum, anchor, filled[::heads])


def _kept_short(
    starts: list[int],
    inputs: Sequence[Tensor],
    state: Fitted,
    chunk: int,
    bound: Tensor | None,
    valid: Tensor | None,
) -> tuple[Tensor, Fitted]:
    """`descend` that keeps for its backward pass the inputs, the states at `starts`, and one stretch between two."""
    outputs, time = [], inputs[0].shape[2]
    for start, stop in pairwise([*starts, time] if starts[-1] < time else starts):
        out, state = checkpoint(
            descend,
            *(x[:, :, start:stop] for x in inputs),
            state,
            chunk=chunk,
            bound=None if bound is None else bound[:, :, start:stop],
            valid=None if valid is None else valid[:, start:stop],
            use_reentrant=False,
            preserve_rng_state=False,
        )
        outputs.append(out)
    return torch.cat(outputs, dim=2), state


def gain(matrix: Tensor) -> float:
    """Scale of the features after a layer: SiLU of normal numbers then has length about one."""
    return math.sqrt(2.8 / matrix.shape[-1])


def _edges(filled: Tensor, time: int, chunk: int) -> tuple[list[int], bool]:
    """Where to cut: wherever a row's chunk ends; and whether all rows' chunks end together."""
    if time == 1:
        return [0, 1], False
    places = set(filled.tolist())
    return [0, *sorted({end for place in places for end in range(chunk - place, time, chunk)}), time], len(places) == 1


def _products(log: Tensor) -> Tensor:
    """[t, r] = product of the factors after r up to t, for r = 0 (the start) .. t; zero above."""
    sums = log.clamp(min=NOTHING).cumsum(-1)
    gaps = sums[..., None] - torch.nn.functional.pad(sums, (1, 0))[..., None, :]
    return gaps.tril(1).exp().tril(1)


def _segment(
    weights: Sequence[Tensor],
    momentum: Sequence[Tensor],
    anchor: Sequence[Tensor],
    live: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rate: Tensor,
    log_keep: Tensor,
    log_momentum: Tensor,
    bound: Tensor | None = None,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """A piece of time within every row's chunk, batch and heads as one axis: outputs, weights and momentum after it."""
    keep, eta = _products(log_keep), _products(log_momentum)
    since = keep[..., 1:] if live is None else keep[..., 1:] * live[:, None]  # padding takes no step
    reach = since @ eta  # what the momentum at r has added to the weights by t
    seen, errors = _errors(k, v, anchor, bound)
    old, moved, new = keep[..., :1], reach[..., :1], reach[..., 1:] * rate[:, None]
    rolled, rolling = eta[:, -1:, :1], (eta[:, -1, 1:] * rate)[..., None]
    old_end, moved_end, new_end = old[:, -1:], moved[:, -1:], new[:, -1, :, None]
    x, weights_end, momentum_end = q, [], []
    for layer, (matrix, speed, at, error) in enumerate(zip(weights, momentum, seen, errors, strict=True)):
        if layer:
            x = torch.nn.functional.silu(x) * gain(weights[layer - 1])
        end = torch.addcmul(old_end * matrix, moved_end, speed)
        weights_end.append(torch.baddbmm(end, (at * new_end).mT, error, alpha=-1))
        momentum_end.append(torch.baddbmm(rolled * speed, (at * rolling).mT, error, alpha=-1))
        inside = torch.bmm(x, at.mT) * new
        if x.shape[-1] < matrix.shape[-1]:  # scale whichever is smaller
            x = torch.baddbmm(torch.bmm(x * old, matrix), x * moved, speed)
        else:
            x = torch.addcmul(old * torch.bmm(x, matrix), moved, torch.bmm(x, speed))
        x = torch.baddbmm(x, inside, error, alpha=-1)
    return x, weights_end, momentum_end


def _errors(k: Tensor, v: Tensor, anchor: Sequence[Tensor], bound: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """Each layer's inputs and the errors at its outputs: the gradient of a layer is the product of the two."""
    seen, slopes = [k], []
    for matrix in anchor[:-1]:
        z = seen[-1] @ matrix
        sigmoid, scale = z.sigmoid(), gain(matrix)
        value = z * sigmoid
        seen.append(value * scale)
        slopes.append((sigmoid + value * (1 - sigmoid)) * scale)
    errors = [_bounded(seen[-1] @ anchor[-1] - v, bound)]
    for matrix, slope in zip(reversed(anchor[1:]), reversed(slopes), strict=True):
        errors.append(_bounded((errors[-1] @ matrix.mT) * slope, bound))
    return seen, errors[::-1]


def _bounded(error: Tensor, bound: Tensor | None) -> Tensor:
    if bound is None:
        return error
    length = torch.linalg.vector_norm(error, dim=-1)
    return error * (bound / torch.maximum(length, bound))[..., None]
