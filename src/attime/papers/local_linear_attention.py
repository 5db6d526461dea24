"""Local linear attention: fit a line around every query where softmax attention takes an average.

Claim:   it interpolates between softmax and linear attention, and estimates better than both where the map from keys to
         values is neither constant nearby nor linear everywhere.
Parts:   attention.testtime.LocalLinear, attention.kernels.ridge
Proof:   (1) closed form = the weighted ridge problem, conjugate gradients = direct, in blocks = at once, a huge ridge =
         softmax; (2) online regression on piecewise-linear streams, dimensions 4 to 32: bandwidth and ridge of each
         method chosen on one stream, error measured on another.
Differs: the streams are stationary in time; no recall or state-tracking training. The public code, unlike the text as
         catalogued, has its ridge relative to the sum of the weights; so has this.
"""

import torch
from torch.nn import functional as F

from attime.attention.kernels.ridge import local_ridge, local_ridge_cg, local_ridge_naive
from attime.attention.testtime import LocalLinear
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=240,
    title="Local Linear Attention: An Optimal Interpolation of Linear and Softmax Attention For Test-Time Regression",
    url="https://arxiv.org/abs/2510.01450",
    parts=(LocalLinear,),
)
FULL = {"length": 1024, "rows": 4}


def run(*, length: int = 512, rows: int = 2, pieces: int = 4, noise: float = 0.05, seed: int = 0) -> Verdict:
    """Four identities, and the error (mean square over that of zero) of three estimators on the second half."""
    torch.manual_seed(seed)
    numbers, misses = identities(), []
    if max(numbers.values()) > 1e-9:
        misses.append("an identity fails")
    for dim in (4, 8, 16, 32):
        tuning, test = (errors(length, dim, rows, pieces, noise) for _ in range(2))
        chosen = {kind: min((e, key) for key, e in tuning.items() if key[0] == kind)[1] for kind, _, _ in tuning}
        found = {kind: test[key] for kind, key in chosen.items()}
        numbers |= {f"error_{kind}_dim{dim}": error for kind, error in found.items()}
        if found["local_linear"] >= min(found["softmax"], found["linear"]):
            misses.append(f"local linear is not the best at dim {dim}")
    return Verdict(holds=not misses, numbers=numbers, reason="; ".join(misses))


def identities() -> dict[str, float]:
    """Largest differences in float64."""
    q, k, v = (torch.randn(2, 2, 70, 8, dtype=torch.float64) for _ in range(3))
    scaled, ridge = q * 8**-0.5, torch.tensor([0.1, 1.0], dtype=torch.float64)
    whole = local_ridge(scaled, q, k, v, ridge)
    pieces = [
        local_ridge(scaled[:, :, a:b], q[:, :, a:b], k[:, :, :b], v[:, :, :b], ridge) for a, b in ((0, 31), (31, 70))
    ]
    others = {
        "ridge_problem": (whole, local_ridge_naive(scaled, q, k, v, ridge)),
        "conjugate_gradients": (whole, local_ridge_cg(scaled, q, k, v, ridge)),
        "blocks": (whole, torch.cat(pieces, dim=2)),
        "huge_ridge_is_softmax": (
            local_ridge(scaled, q, k, v, ridge * 1e12),
            F.scaled_dot_product_attention(q, k, v, is_causal=True),
        ),
    }
    return {f"difference_{name}": float((a - b).abs().max()) for name, (a, b) in others.items()}


def errors(length: int, dim: int, rows: int, pieces: int, noise: float) -> dict[tuple[str, float, float], float]:
    """Predict each value from the pairs before it; keys by (estimator, sharpness, ridge)."""
    x = F.normalize(torch.randn(rows, length, dim), dim=-1) * dim**0.5
    piece = (x @ torch.randn(rows, pieces, dim).mT).argmax(-1)
    maps = torch.randn(rows, pieces, dim, dim) * dim**-0.5
    y = torch.einsum("rti,rtio->rto", x, maps[torch.arange(rows)[:, None], piece]) + noise * torch.randn_like(x)
    q, k, v = x[:, None, 1:], x[:, None, :-1], y[:, None, :-1]
    guesses, ridges = {}, (1e-3, 1e-2, 1e-1)
    for sharp in (1 / dim, 2 / dim, 4 / dim, 8 / dim, 16 / dim):
        guesses["softmax", sharp, 0.0] = F.scaled_dot_product_attention(q * sharp, k, v, is_causal=True, scale=1.0)
        for ridge in ridges:
            guesses["local_linear", sharp, ridge] = local_ridge(q * sharp, q, k, v, torch.tensor([ridge]))
    for ridge in ridges:  # equal weights: ridge regression on all the past
        guesses["linear", 0.0, ridge] = local_ridge(q * 0, q, k, v, torch.tensor([ridge]))
    truth = y[:, 1 + length // 2 :]
    scale = truth.square().mean()
    return {key: float((guess[:, 0, length // 2 :] - truth).square().mean() / scale) for key, guess in guesses.items()}
