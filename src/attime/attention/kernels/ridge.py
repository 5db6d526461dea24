r"""A weighted ridge regression for every query: values as a linear function of keys, fitted around the query.

    p_i = softmax_i(q_t . k_i), i <= t      min_{b, W} sum_i p_i |v_i - b - W (k_i - a_t)|^2 + ridge |W|^2      o_t = b

With mean key m, mean value n and covariances under p:    o = n + Cov(v, k) (Cov(k, k) + ridge I)^{-1} (a - m).

Source:  Local Linear Attention, arXiv 2510.01450, sec. 3 (closed form), sec. 4 (matrix-free solve, blocks).
Names:   our mean m and ridge are their mu / omega + q and lambda; `at` is the point of the fit, their q.
Cost:    time O(T^2 d^2 / 2 + T d^3 / 3), by conjugate gradients O(T^2 d iterations); memory O(block d^2).
Differs: centred at the mean key, not at the query: no difference of large numbers. The ridge is relative to weights
         that sum to one, as in their public code.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["local_ridge", "local_ridge_cg", "local_ridge_naive"]

Heads = Float[Tensor, "batch heads time head_dim"]
Keys = Float[Tensor, "batch heads past+time head_dim"]
Values = Float[Tensor, "batch heads past+time value_dim"]
Out = Float[Tensor, "batch heads time value_dim"]
Ridge = Float[Tensor, " heads"]
Kept = Bool[Tensor, "batch slots"] | None

QUERIES, KEYS = 256, 512  # machine constants: a tile of products of keys is read by many queries before it is left
FEW = 4  # queries for which packed products of keys do not pay
HIDDEN = -1e30  # finite: a row that sees nothing stays finite


def local_ridge_naive(q: Heads, at: Heads, k: Tensor, v: Tensor, ridge: Ridge, kept: Kept = None) -> Out:
    """The least-squares problem itself, one query at a time."""
    past, outputs = k.shape[2] - q.shape[2], []
    for place, (q_t, a_t) in enumerate(zip(q.unbind(2), at.unbind(2), strict=True), past + 1):
        scores = torch.einsum("bhd,bhid->bhi", q_t, k[:, :, :place])
        if kept is not None:
            scores = scores.masked_fill(~kept[:, None, :place], HIDDEN)
        p = scores.softmax(-1)[..., None]
        design = torch.cat([torch.ones_like(p), k[:, :, :place] - a_t[:, :, None]], dim=-1)
        penalty = torch.eye(design.shape[-1], dtype=q.dtype, device=q.device) * ridge[:, None, None]
        penalty[:, 0, 0] = 0
        fit = torch.linalg.solve(design.mT @ (p * design) + penalty, design.mT @ (p * v[:, :, :place]))
        outputs.append(fit[:, :, 0])
    return torch.stack(outputs, dim=2)


def local_ridge(q: Heads, at: Heads, k: Tensor, v: Tensor, ridge: Ridge, kept: Kept = None) -> Out:
    """The same numbers, blocks of queries at a time, one Cholesky factor per query.

    The last `time` keys are the queries' own tokens; `kept` is False at slots that hold nothing. float32 at least.
    """
    batch, heads = q.shape[:2]
    flat = (x.flatten(0, 1) for x in (q, at, k, v))
    hidden = None if kept is None else ((~kept) * HIDDEN).repeat_interleave(heads, dim=0)
    return _Ridge.apply(*flat, ridge.repeat(batch), hidden).unflatten(0, (batch, heads))


def local_ridge_cg(
    q: Heads, at: Heads, k: Tensor, v: Tensor, ridge: Ridge, kept: Kept = None, *, iterations: int = 32
) -> Out:
    """The same numbers without forming a d x d matrix: `iterations` steps of conjugate gradients (d of them are exact).

    Stops early where nothing is left to correct. For large head_dim and few iterations.
    """
    past, outputs = k.shape[2] - q.shape[2], []
    for start in range(0, q.shape[2], QUERIES):
        here, point = q[:, :, start : start + QUERIES], at[:, :, start : start + QUERIES]
        stop = past + start + here.shape[2]
        keys, values = k[:, :, :stop], v[:, :, :stop]
        scores = here @ keys.mT + _causal(here.shape[2], stop, q)
        if kept is not None:
            scores = scores.masked_fill(~kept[:, None, None, :stop], HIDDEN)
        p = scores.softmax(-1)
        mean = p @ keys
        left = mean - point
        u, step, size = torch.zeros_like(left), left, left.square().sum(-1, keepdim=True)
        done = torch.finfo(q.dtype).eps ** 2 * size.detach()
        for _ in range(iterations):
            along = (p * (step @ keys.mT)) @ keys - mean * (mean * step).sum(-1, keepdim=True)
            along = along + ridge[:, None, None] * step
            pace = size / (step * along).sum(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)
            u, left = u + pace * step, left - pace * along
            now = left.square().sum(-1, keepdim=True)
            step, size = left + now / size.clamp(min=torch.finfo(q.dtype).tiny) * step, now
            if bool((now <= done).all()):
                break
        share = 1 + (mean * u).sum(-1, keepdim=True) - u @ keys.mT
        outputs.append((p * share) @ values)
    return torch.cat(outputs, dim=2)


def _causal(queries: int, stop: int, like: Tensor) -> Tensor:
    """0 where a key is seen, -1e30 where not, for the last `queries` of `stop` slots."""
    return torch.full((queries, stop), HIDDEN, dtype=like.dtype, device=like.device).triu(stop - queries + 1)


def _tiles(q: Tensor, k: Tensor, hidden: Tensor | None, first: int) -> Iterator[tuple[slice, Tensor]]:
    """Scores of a block of queries, whose first is token `first`, a tile of keys at a time."""
    stop = first + q.shape[1]
    for start in range(0, stop, KEYS):
        place = slice(start, min(start + KEYS, stop))
        scores = torch.bmm(q, k[:, place].mT)
        if place.stop > first + 1:
            late = torch.arange(place.start, place.stop, device=q.device) > torch.arange(
                first, stop, device=q.device
            ).unsqueeze(1)
            scores.masked_fill_(late, HIDDEN)
        yield place, scores if hidden is None else scores.add_(hidden[:, None, place])


def _moments(
    q: Tensor, k: Tensor, hidden: Tensor | None, first: int, ridge: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean key, and the Cholesky factor of the covariance of the keys plus the ridge, of every query."""
    batch, count, dim = q.shape
    mean, covariance = torch.zeros_like(q), q.new_zeros(batch, count, dim, dim)
    if count <= FEW:
        for place, scores in _tiles(q, k, hidden, first):
            p, tile = (scores - lse).exp_(), k[:, place]
            mean.baddbmm_(p, tile)
            for row in range(count):
                covariance[:, row] += torch.bmm((tile * p[:, row, :, None]).mT, tile)
        covariance += ridge[:, None, None, None] * torch.eye(dim, dtype=q.dtype, device=q.device)
        return mean, torch.linalg.cholesky_ex(covariance - mean[..., :, None] * mean[..., None, :])[0]
    packed = q.new_zeros(batch, count, dim * (dim + 1) // 2)
    starts = [row * dim - row * (row - 1) // 2 for row in range(dim)]  # the upper triangle, row by row
    for place, scores in _tiles(q, k, hidden, first):
        p, tile = (scores - lse).exp_(), k[:, place]
        across = tile.mT.contiguous()
        products = k.new_empty(batch, packed.shape[2], tile.shape[1])
        for row, start in enumerate(starts):
            torch.mul(across[:, row, None], across[:, row:], out=products[:, start : start + dim - row])
        mean.baddbmm_(p, tile)
        packed.baddbmm_(p, products.mT)
    for row, start in enumerate(starts):
        packed[..., start : start + dim - row].addcmul_(mean[..., row, None], mean[..., row:], value=-1)
        packed[..., start] += ridge[:, None]
    rows, columns = torch.triu_indices(dim, dim, device=q.device)
    covariance[..., columns, rows] = packed
    return mean, torch.linalg.cholesky_ex(covariance)[0]


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.cholesky_solve(right[..., None], factor).squeeze(-1)


class _Ridge(torch.autograd.Function):
    """Gradients in closed form; the factors are computed again, a block at a time: nothing of size d^2 is kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, at: Tensor, k: Tensor, v: Tensor, ridge: Tensor, hidden: Tensor | None) -> Tensor:
        past, time = k.shape[1] - q.shape[1], q.shape[1]
        out, lse, u = q.new_zeros(*q.shape[:2], v.shape[2]), q.new_empty(*q.shape[:2], 1), torch.empty_like(q)
        for start in range(0, time, QUERIES):
            here = slice(start, min(start + QUERIES, time))
            first, parts = past + start, []
            for _, scores in _tiles(q[:, here], k, hidden, first):
                parts.append(scores.logsumexp(-1, keepdim=True))
            lse[:, here] = torch.cat(parts, dim=-1).logsumexp(-1, keepdim=True)
            mean, factor = _moments(q[:, here], k, hidden, first, ridge, lse[:, here])
            u[:, here] = _solve(factor, mean - at[:, here])
            share = 1 + (mean * u[:, here]).sum(-1, keepdim=True)
            for place, scores in _tiles(q[:, here], k, hidden, first):
                p = (scores - lse[:, here]).exp_()
                out[:, here] += torch.bmm(p * (share - torch.bmm(u[:, here], k[:, place].mT)), v[:, place])
        ctx.save_for_backward(q, at, k, v, ridge, hidden, lse, u, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, at, k, v, ridge, hidden, lse, u, out = ctx.saved_tensors
        past, time = k.shape[1] - q.shape[1], q.shape[1]
        dq, dat, dk, dv = (torch.zeros_like(x) for x in (q, at, k, v))
        dridge = torch.zeros_like(ridge)
        for start in range(0, time, QUERIES):
            here = slice(start, min(start + QUERIES, time))
            first, g, u_t, lse_t = past + start, gradients[0][:, here].contiguous(), u[:, here], lse[:, here]
            mean, factor = _moments(q[:, here], k, hidden, first, ridge, lse_t)
            both, total = torch.zeros_like(mean), torch.zeros_like(lse_t)
            for place, scores in _tiles(q[:, here], k, hidden, first):
                weighed = (scores - lse_t).exp_().mul_(torch.bmm(g, v[:, place].mT))
                both.baddbmm_(weighed, k[:, place])
                total += weighed.sum(-1, keepdim=True)
            w = _solve(factor, total * mean - both)
            mean_u, mean_w = (mean * u_t).sum(-1, keepdim=True), (mean * w).sum(-1, keepdim=True)
            dmean = w * (1 + mean_u) + u_t * (mean_w + total)
            dat[:, here] = -w
            dridge -= (w * u_t).sum((1, 2))
            level = (g * out[:, here]).sum(-1, keepdim=True) + (mean * dmean).sum(-1, keepdim=True)
            level -= (w * (mean - at[:, here])).sum(-1, keepdim=True) + mean_u * mean_w
            level += ridge[:, None, None] * (w * u_t).sum(-1, keepdim=True)
            for place, scores in _tiles(q[:, here], k, hidden, first):
                keys, p = k[:, place], (scores - lse_t).exp_()
                along_u, along_w, c = torch.bmm(u_t, keys.mT), torch.bmm(w, keys.mT), torch.bmm(g, v[:, place].mT)
                share = 1 + mean_u - along_u
                dv[:, place].baddbmm_((p * share).mT, g)
                dp = c * share - along_u * along_w + torch.bmm(dmean, keys.mT)
                ds = p * (dp - level)
                dq[:, here].baddbmm_(ds, keys)
                dk[:, place].baddbmm_(ds.mT, q[:, here])
                dk[:, place].baddbmm_((p * (c + along_w)).mT, u_t, alpha=-1)
                dk[:, place].baddbmm_((p * along_u).mT, w, alpha=-1)
                dk[:, place].baddbmm_(p.mT, dmean)
        return dq, dat, dk, dv, dridge, None
