"""Titans: a network that learns the past at test time, with momentum and decay.

Claim:   a deep memory trained while it reads recalls more, and further back, than a recurrent matrix does.
Parts:   attention.testtime.NeuralMemory, attention.kernels.fit
Proof:   (1) one layer, chunk 1, no momentum is the gated delta rule; (2) reading a chunk at once is descending token by
         token with the gradients taken at the chunk's start; (3) recall from a stream of bindings that change, at two
         lengths, more bindings than key dimensions: deep memory against one matrix, and against linear attention with
         and without decay.
Differs: (3) is the mechanism with fixed rates, nothing trained outside; the paper trains language models. Each memory has
         its best rate of a small grid, tried on other streams. The deep memory holds `2 hidden / dim` times the numbers of
         the matrix, which keys of this size cannot make larger. Momentum does not help here: without it the best rate is
         higher and recall the same. Of the paper's compositions (memory as context, gate or layer) this is the memory alone.
"""

import torch
from torch.nn import functional as F

from attime.attention.kernels.delta import recur_delta_naive
from attime.attention.kernels.fit import Fitted, descend, descend_naive, gain
from attime.attention.testtime import NeuralMemory
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=13,
    title="Titans: Learning to Memorize at Test Time",
    url="https://arxiv.org/abs/2501.00663",
    parts=(NeuralMemory,),
)
FULL = {"length": 2048, "pairs": 64, "hidden": 256, "rows": 32}


def run(
    *, length: int = 512, pairs: int = 48, dim: int = 16, hidden: int = 64, chunk: int = 4, rows: int = 8, seed: int = 0
) -> Verdict:
    """Two identities, and recall after `length` and four times as many tokens."""
    torch.manual_seed(seed)
    numbers = identities(dim)
    for name, time in (("1x", length), ("4x", 4 * length)):
        for kind, score in recall(time, pairs, dim, hidden, chunk, rows).items():
            numbers[f"recall_{kind}_{name}"] = score
    exact = max(numbers["gated_delta_difference"], numbers["frozen_gradient_difference"]) < 1e-10
    ahead = numbers["recall_deep_4x"] - max(numbers["recall_linear_attention_4x"], numbers["recall_decayed_4x"])
    deeper = numbers["recall_deep_4x"] - numbers["recall_matrix_4x"]
    reason = (
        ""
        if exact and ahead >= 0.2 and deeper > 0
        else (
            f"identities {'hold' if exact else 'fail'}; the deep memory leads linear attention by {ahead:.2f} (needs 0.2) "
            f"and one matrix by {deeper:.2f} (needs more than 0) at the longer length"
        )
    )
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def identities(dim: int) -> dict[str, float]:
    """Largest differences, in float64, of outputs and weights."""
    q, k, v = (torch.randn(2, 2, 45, dim, dtype=torch.float64) for _ in range(3))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    rate, keep = (torch.rand(2, 2, 45, dtype=torch.float64) * 0.9 + 0.05 for _ in range(2))
    none = torch.full_like(rate, -torch.inf)
    empty = torch.zeros(2, 2, dim, dim, dtype=torch.float64)
    ours, state = descend(q, k, v, rate, keep.log(), none, Fitted.start([empty]), chunk=1)
    theirs, memory = recur_delta_naive(q, k, keep[..., None] * v, keep.log(), rate / keep, empty)
    delta = max(float((ours - theirs).abs().max()), float((state.weights[0] - memory).abs().max()))
    deep = [torch.randn(2, 2, *size, dtype=torch.float64) for size in ((dim, 24), (24, dim))]
    inputs = (q, k, v, rate / 16, keep.log(), keep.flip(2).log(), Fitted.start(deep))
    (ours, state), (theirs, last) = descend(*inputs, chunk=16), descend_naive(*inputs, chunk=16)
    ends = zip(state.tensors(), last.tensors(), strict=True)
    frozen = max(float((ours - theirs).abs().max()), *(float((a - b).abs().max()) for a, b in ends))
    return {"gated_delta_difference": delta, "frozen_gradient_difference": frozen}


def recall(time: int, pairs: int, dim: int, hidden: int, chunk: int, rows: int) -> dict[str, float]:
    """Share of keys whose newest value is named right at the end; a twentieth of the tokens binds a key anew."""
    keys, codes = (F.normalize(torch.randn(rows, pairs, dim), dim=-1) for _ in range(2))
    asked, row = torch.randint(pairs, (rows, time)), torch.arange(rows)
    fresh, other = torch.rand(rows, time) < 0.05, torch.randint(pairs, (rows, time))
    bound, named = torch.arange(pairs).repeat(rows, 1), []
    for key, changes, value in zip(asked.unbind(1), fresh.unbind(1), other.unbind(1), strict=True):
        bound[row, key] = torch.where(changes, value, bound[row, key])
        named.append(bound[row, key])
    k, v = keys[row[:, None], asked], codes[row[:, None], torch.stack(named, dim=1)]
    faded = k * 0.995 ** torch.arange(time - 1, -1, -1)[:, None]
    answers = {"linear_attention": keys @ (k.mT @ v), "decayed": keys @ (faded.mT @ v)}
    ones = torch.ones(rows, 1, time)
    kinds = {
        "matrix": ([dim], 0.05, 0.8),
        "deep_no_momentum": ([hidden, dim], 1.0, 0.0),
        "deep": ([hidden, dim], 0.3, 0.8),
    }
    for kind, (widths, rate, momentum) in kinds.items():
        sizes = zip([dim, *widths], widths, strict=False)
        start = [torch.randn(rows, 1, *size) for size in sizes]
        start[-1].zero_()
        still = (ones * momentum).log()
        q = k[:, None]
        _, state = descend(q, q, v[:, None], ones * rate, ones * 0, still, Fitted.start(start), chunk=chunk)
        x = keys[:, None] @ state.weights[0]
        for before, matrix in zip(state.weights, state.weights[1:], strict=False):
            x = (F.silu(x) * gain(before)) @ matrix
        answers[kind] = x[:, 0]
    return {
        kind: float(((F.normalize(x, dim=-1) @ codes.mT).argmax(-1) == bound).float().mean())
        for kind, x in answers.items()
    }
