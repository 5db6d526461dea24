"""Various Lengths, Constant Speed: linear attention in blocks.

Claim:   training speed does not depend on the length of the sequence at fixed memory, where softmax attention slows
         down in proportion to it.
Parts:   attention.linear.Decay, attention.kernels.recurrence.recur
Proof:   the blocks give the numbers and the gradients of the recurrence and of the masked square at odd lengths;
         then CPU time of forward and backward per token, at a short and a long length, beside softmax attention's.
Differs: plain PyTorch on one CPU core instead of a GPU kernel; quality against softmax models is not measured here.
"""

import time

import torch
from torch.nn import functional as F

from attime.attention.kernels.recurrence import recur, recur_naive
from attime.attention.linear import Decay
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=23,
    title="Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention",
    url="https://arxiv.org/abs/2405.17381",
    parts=(Decay, recur),
)
FULL = {"long": 16384, "heads": 8, "rounds": 5}


def run(
    *, short: int = 1024, long: int = 8192, heads: int = 2, size: int = 64, rounds: int = 3, seed: int = 0
) -> Verdict:
    """Check the blocks against two other forms, then time both attentions at two lengths."""
    numbers = {"largest_error": _error(seed)}
    seconds = {}
    for length in (short, long):
        torch.manual_seed(seed)
        q, k, v = (torch.randn(1, heads, length, size, requires_grad=True) for _ in range(3))
        decay = -torch.arange(1, heads + 1) * (8.0 / heads)
        memory = torch.zeros(1, heads, size, size)
        forms = {
            "lightning": lambda q, k, v, decay=decay, memory=memory: recur(q, k, v, decay, memory)[0],
            "softmax": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        }
        for name, form in forms.items():
            times = []
            for _ in range(rounds + 1):  # the first warms up
                start = time.thread_time()
                form(q, k, v).sum().backward()
                times.append(time.thread_time() - start)
            seconds[name, length] = min(times[1:]) / length
            numbers[f"{name}_microseconds_per_token_{length}"] = 1e6 * seconds[name, length]
    slower = {name: seconds[name, long] / seconds[name, short] for name in ("lightning", "softmax")}
    numbers |= {f"{name}_slows_down": factor for name, factor in slower.items()}
    exact, flat = numbers["largest_error"] < 1e-9, slower["lightning"] <= 1.25 and slower["softmax"] >= 4
    reason = (
        "" if exact and flat else "the forms disagree" if not exact else "time per token is not flat beside softmax"
    )
    return Verdict(holds=exact and flat, numbers=numbers, reason=reason)


def _error(seed: int) -> float:
    """Blocks, steps and the masked square: the largest difference of outputs and gradients, in float64."""
    worst = 0.0
    for length, decay in ((77, -0.05), (200, 0.0), (333, -3.0)):
        torch.manual_seed(seed)
        x = [torch.randn(1, 2, length, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
        memory, decays = torch.zeros(1, 2, 8, 8).double(), torch.tensor([decay, decay / 2]).double()
        gaps = torch.arange(length)[:, None] - torch.arange(length)
        mask = (decays[:, None, None] * gaps.clamp(min=0)).exp().tril()
        q, k, v = x
        outputs = [
            recur(q, k, v, decays, memory)[0],
            recur_naive(q, k, v, decays, memory)[0],
            (q @ k.mT * mask) @ v,
        ]
        found = [(out, *torch.autograd.grad(out.square().sum(), x)) for out in outputs]
        for other in found[1:]:
            worst = max(worst, *(float((a - b).detach().abs().max()) for a, b in zip(found[0], other, strict=True)))
    return worst
