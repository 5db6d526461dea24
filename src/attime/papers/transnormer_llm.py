"""Scaling TransNormer to 175 Billion Parameters: linear attention with a decay per head and layer.

Claim:   with an exponential decay (and a rotation in the first layer), a norm without a denominator and a gate, linear
         attention learns language better than without; in the robust form inference is stable at any length.
Parts:   attention.linear.Decay
Proof:   the form lambda^t q_t, lambda^-s k_s overflows on a long sequence where ours is finite and right. Then the
         same small model learns the bytes of this library's ledger of titles with the decays of the released code and
         with decays set to zero (the baseline): held-out nats per byte, with decay below without.
Differs: thousands of weights and 20 kB of text instead of 175 billion and 2 TB; speed is the subject of
         lightning_attention. With the decays that the paper prints, exp(-(8h/H) (1 - l/L)), this small model was worse
         than without decay (2.22 against 2.17 nats, 150 steps, no rotation): with four heads they forget within two tokens.
"""

from importlib.resources import files

import torch
from torch.nn import functional as F

from attime.attention.kernels.recurrence import recur, recur_naive
from attime.attention.linear import Decay
from attime.models.stack import Block, Stack
from attime.models.tokens import TokenModel
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=199,
    title="Scaling TransNormer to 175 Billion Parameters",
    url="https://arxiv.org/abs/2307.14995",
    parts=(Decay,),
)
FULL = {"dim": 64, "heads": 8, "steps": 600, "length": 4000}


def run(
    *, dim: int = 32, heads: int = 4, steps: int = 80, window: int = 96, length: int = 1000, seed: int = 0
) -> Verdict:
    """Overflow of the fragile form, then held-out nats per byte with and without decay."""
    numbers = _stability(length, seed)
    for name, decays in (("decay", True), ("no_decay", False)):
        numbers[f"nats_{name}"] = _nats(dim, heads, steps, window, seed, decays=decays)
    robust = numbers["robust_error"] < 1e-10 and numbers["fragile_not_finite"] > 0
    better = numbers["nats_decay"] < numbers["nats_no_decay"]
    reason = "" if robust and better else "decay does not lower the loss" if robust else "the robust form is not right"
    return Verdict(holds=robust and better, numbers=numbers, reason=reason)


def _stability(length: int, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    q, k, v = (torch.randn(1, 2, length, 8, dtype=torch.float64) for _ in range(3))
    decay, memory = torch.tensor([-2.0, -0.1]).double(), torch.zeros(1, 2, 8, 8).double()
    place = decay[:, None, None] * torch.arange(length)[:, None]
    fragile = ((q * place.exp()) @ (k * (-place).exp()).mT).tril() @ v
    ours, steps = recur(q, k, v, decay, memory)[0], recur_naive(q, k, v, decay, memory)[0]
    return {
        "robust_error": float((ours - steps).abs().max()),
        "fragile_not_finite": float((~fragile.isfinite()).double().mean()),
    }


def _nats(dim: int, heads: int, steps: int, window: int, seed: int, *, decays: bool) -> float:
    """Train two layers on the first five sixths of the text; nats per byte of the rest."""
    text = torch.tensor(list(files("attime.papers").joinpath("titles.txt").read_bytes()))
    train, held = text[: len(text) * 5 // 6], text[len(text) * 5 // 6 :]
    torch.manual_seed(seed)
    mixers = [Decay(dim, heads=heads, layer=layer, layers=2, rotate=layer == 0) for layer in (0, 1)]
    for mixer in mixers:
        mixer.log_decay.mul_(float(decays))
    model = TokenModel(Stack([Block(mixer, hidden=2 * dim) for mixer in mixers]), vocabulary=256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        starts = torch.randint(len(train) - window, (8, 1), generator=draw)
        rows = train[starts + torch.arange(window + 1)]
        loss = F.cross_entropy(model.head(model(rows[:, :-1])[0].flatten(0, 1)), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return float(F.cross_entropy(model.head(model(held[None, :-1])[0][0]), held[1:]))
