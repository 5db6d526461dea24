"""FuseMax: attention as a cascade of einsums, and how often a cascade must walk over the keys.

Claim:   textbook softmax needs three passes over the keys, block-local softmax two, the running form (FlashAttention-2)
         one; only with one does what must be held not grow with the keys. Dividing at the end takes F instead of M
         divisions per query (F value channels, M keys).
Parts:   attention.kernels.merge
Proof:   count passes, held numbers and divisions from the three cascades written as data; run all three in float64 against
         softmax attention. Baseline: the three-pass cascade, whose held numbers must grow with M.
Differs: the mapping onto a spatial array, its 6.7x speed-up over FLAT and its energy need hardware and are not shown here.
"""

import torch

from attime.attention.kernels.merge import merge, partial
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=205,
    title="FuseMax: Leveraging Extended Einsums to Optimize Attention Accelerator Design",
    url="https://arxiv.org/abs/2406.10491",
    parts=(merge, partial),
)
FULL = {"keys": 4096, "longer": 65536, "queries": 64}

# tensor, its ranks, what it is made of; ranks: M keys (as M1 blocks of M0), P queries, E and F channels. "/" divides.
THREE = (
    ("QK", "M P", "Q K"),
    ("GM", "P", "QK"),  # greatest score
    ("SN", "M P", "QK GM"),  # exp(QK - GM)
    ("SD", "P", "SN"),
    ("A", "M P", "SN / SD"),
    ("AV", "F P", "A V"),
)
TWO = (
    ("QK", "M1 M0 P", "Q K"),
    ("LM", "M1 P", "QK"),  # greatest score of a block
    ("SLN", "M1 M0 P", "QK LM"),
    ("SLD", "M1 P", "SLN"),
    ("GM", "P", "LM"),
    ("PLM", "M1 P", "LM GM"),  # exp(LM - GM)
    ("SD", "P", "SLD PLM"),
    ("SLNV", "F P", "SLN PLM V"),
    ("AV", "F P", "SLNV / SD"),
)
ONE = (
    ("QK", "M1 M0 P", "Q K"),
    ("LM", "M1 P", "QK"),
    ("RM", "M1 P", "LM"),  # running: at block i from block i - 1
    ("SLN", "M1 M0 P", "QK RM"),
    ("SLD", "M1 P", "SLN"),
    ("RD", "M1 P", "SLD RM"),
    ("SLNV", "M1 F P", "SLN V"),
    ("RNV", "M1 F P", "SLNV RM"),
    ("AV", "F P last", "RNV / RD"),  # at the last block: the running value is there, no walk
)


def walk(cascade: tuple[tuple[str, str, str], ...], sizes: dict[str, int]) -> dict[str, int]:
    """Passes over M, numbers held per query from one pass to a later one, and divisions per query.

    A value that sums over the whole of M is there when a pass ends; what combines it with elements of M is in the next.
    """
    ranks, turn = {"Q": "E P", "K": "E M", "V": "F M"}, {"Q": 0, "K": 1, "V": 1}
    held, divisions = set(), 0
    for name, axes, made_of in cascade:
        parts = [part for part in made_of.split() if part != "/"]
        streamed = [part for part in parts if "M" in ranks[part]]
        complete = [turn[part] for part in parts if part not in streamed]
        starts = [turn[part] for part in streamed]
        turn[name] = max([*starts, *(each + 1 for each in complete)] if starts else complete)
        held |= {part for part in streamed if turn[part] < turn[name] and part not in ("K", "V")}
        ranks[name] = axes.removesuffix(" last")
        if "/" in made_of:
            divisions += _size(ranks[name], sizes)
    live = sum(_size(ranks[part], sizes) for part in held)
    return {"passes": max(turn.values()), "held": live, "divisions": divisions}


def run(*, keys: int = 512, longer: int = 8192, queries: int = 16, block: int = 64, seed: int = 0) -> Verdict:
    """Count the three cascades and compare what they compute."""
    torch.manual_seed(seed)
    head_dim = 32
    q, k, v = (3 * torch.randn(1, 1, n, head_dim, dtype=torch.float64) for n in (queries, keys, keys))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    scores = q @ k.mT * head_dim**-0.5
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    three = (weights / weights.sum(-1, keepdim=True)) @ v
    blocks = scores.split(block, dim=-1)
    local = [(each - each.amax(-1, keepdim=True)).exp() for each in blocks]
    scale = [(each.amax(-1, keepdim=True) - scores.amax(-1, keepdim=True)).exp() for each in blocks]
    parts = list(zip(local, scale, v.split(block, dim=2), strict=True))
    two = sum(part * by @ value for part, by, value in parts) / sum(
        part.sum(-1, keepdim=True) * by for part, by, _ in parts
    )
    running = partial(q, k[:, :, :block], v[:, :, :block])
    for k_b, v_b in zip(k[:, :, block:].split(block, 2), v[:, :, block:].split(block, 2), strict=True):
        running = merge(running, partial(q, k_b, v_b))
    numbers: dict[str, float] = {}
    for name, cascade, out in (("three", THREE, three), ("two", TWO, two), ("one", ONE, running[0])):
        numbers[f"{name}_error"] = float((out - expected).abs().max())
        for length in (keys, longer):
            sizes = {"M": length, "M1": length // block, "M0": block, "F": head_dim}
            numbers |= {f"{name}_{what}_{length}": float(count) for what, count in walk(cascade, sizes).items()}
    grown = longer / keys
    holds = max(numbers[f"{name}_error"] for name in ("one", "two", "three")) < 1e-12
    holds &= [numbers[f"{name}_passes_{keys}"] for name in ("three", "two", "one")] == [3, 2, 1]
    holds &= numbers[f"one_held_{longer}"] == numbers[f"one_held_{keys}"]
    holds &= all(
        numbers[f"{name}_held_{longer}"] >= 0.9 * grown * numbers[f"{name}_held_{keys}"] > 0
        for name in ("two", "three")
    )
    holds &= numbers[f"three_divisions_{longer}"] == longer and numbers[f"one_divisions_{longer}"] == head_dim
    return Verdict(holds=bool(holds), numbers=numbers, reason="" if holds else "a count or an output is not as claimed")


def _size(axes: str, sizes: dict[str, int]) -> int:
    return torch.Size([sizes.get(axis, 1) for axis in axes.split()]).numel()
