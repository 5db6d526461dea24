"""Miras: a sequence layer is a memory, a loss, a retention and an optimiser; other losses than squares remember better.

Claim:   recurrent layers are one descent with different losses; a Huber loss stands values that a square loss does not.
Parts:   attention.testtime.RobustMemory, attention.kernels.fit
Proof:   (1) squares, one matrix, no retention is the delta rule, and so is a Huber loss whose threshold is never reached;
         (2) online regression on streams in which every tenth value is wild: error of what was learnt, with the square
         and the Huber loss, each with its best rate (and threshold) chosen on another stream, for a matrix and for a
         network of two layers; and without wild values, where Huber should cost little.
Differs: of the three models this is Yaad, with the Huber loss of the error's length; Moneta (l_p loss, q-norm) and
         Memora (softmax of accumulated gradients) are not built. Fixed rates, nothing trained outside.
"""

import torch
from torch.nn import functional as F

from attime.attention.kernels.delta import recur_delta_naive
from attime.attention.kernels.fit import Fitted, descend
from attime.attention.testtime import RobustMemory
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=248,
    title="It's All Connected: A Journey Through Test-Time Memorization, Attentional Bias, Retention, "
    "and Online Optimization",
    url="https://arxiv.org/abs/2504.13173",
    parts=(RobustMemory,),
)
FULL = {"length": 2048, "rows": 8, "dim": 32}


def run(
    *, length: int = 768, dim: int = 16, rows: int = 4, wild: float = 0.1, size: float = 10.0, seed: int = 0
) -> Verdict:
    """Two identities, and errors with and without wild values."""
    torch.manual_seed(seed)
    numbers, misses = identities(dim), []
    if max(numbers.values()) > 1e-10:
        misses.append("an identity fails")
    for kind, widths in (("matrix", [dim]), ("deep", [4 * dim, dim])):
        for share in (0.0, wild):
            tuning, test = (errors(length, dim, rows, share, size, widths) for _ in range(2))
            for loss in ("square", "huber"):
                best = min((error, key) for key, error in tuning.items() if key[0] == loss)[1]
                numbers[f"error_{kind}_{loss}_{'wild' if share else 'clean'}"] = test[best]
        if numbers[f"error_{kind}_huber_wild"] >= numbers[f"error_{kind}_square_wild"]:
            misses.append(f"with wild values Huber is no better than squares for the {kind} memory")
    return Verdict(holds=not misses, numbers=numbers, reason="; ".join(misses))


def identities(dim: int) -> dict[str, float]:
    """Largest differences of outputs in float64."""
    q, k, v = (torch.randn(2, 2, 45, dim, dtype=torch.float64) for _ in range(3))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    rate = torch.rand(2, 2, 45, dtype=torch.float64)
    empty, still = torch.zeros(2, 2, dim, dim, dtype=torch.float64), torch.full_like(rate, -torch.inf)
    arguments = (q, k, v, rate, rate * 0, still, Fitted.start([empty]))
    square, huber = descend(*arguments, chunk=1)[0], descend(*arguments, chunk=1, bound=rate * 0 + 1e6)[0]
    delta = recur_delta_naive(q, k, v, rate * 0, rate, empty)[0]
    return {
        "delta_rule_difference": float((square - delta).abs().max()),
        "huber_of_small_errors_difference": float((huber - square).abs().max()),
    }


def errors(
    length: int, dim: int, rows: int, share: float, size: float, widths: list[int]
) -> dict[tuple[str, float, float], float]:
    """Error at the next key, second half, relative to that of zero; keys are (loss, rate, threshold)."""
    keys = F.normalize(torch.randn(rows, 1, length + 1, dim), dim=-1)
    clean = keys @ torch.randn(rows, 1, dim, dim)
    k, following, truth = keys[:, :, :-1], keys[:, :, 1:], clean[:, :, 1:]
    strange = (torch.rand(rows, 1, length, 1) < share) * size
    v = clean[:, :, :-1] + 0.1 * torch.randn_like(truth) + strange * torch.randn_like(truth)
    ones, found = torch.ones(rows, 1, length), {}
    start = [torch.randn(rows, 1, *pair) for pair in zip([dim, *widths], widths, strict=False)]
    start[-1].zero_()
    for rate in (0.003, 0.01, 0.03, 0.1, 0.3):
        for threshold in (torch.inf, 0.3, 1.0, 3.0):
            bound = None if threshold == torch.inf else ones * threshold
            arguments = (following, k, v, ones * rate, ones * 0, (ones * 0).log(), Fitted.start(start))
            guess, _ = descend(*arguments, chunk=16, bound=bound)
            loss = "square" if bound is None else "huber"
            late = slice(length // 2, None)
            error = (guess - truth)[:, :, late].square().mean() / truth[:, :, late].square().mean()
            found[loss, rate, threshold] = float(error) if error.isfinite() else float("inf")
    return found
