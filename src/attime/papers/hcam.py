"""HCAM: a query finds chunks of its past by their summaries and then attends inside them, however long ago they were.

Claim:   what happened is recalled after long distraction, also much longer than in training, at the cost of one summary per
         chunk and of attention inside a few chunks; a model with a window of the past fails.
Parts:   attention.sparse.HierarchicalChunks, against attention.sparse.SlidingWindow
Proof:   events (a sign and what it means) are followed by distraction; at last the signs are shown and their meanings are due. One
         layer is trained at 16 chunks: it is right in 90 % of the cases there and at five times the length, where a window
         trained alike is within 15 points of chance. With chunks of one token, all of them chosen, the layer is one softmax
         over the summaries (1e-10); at the longer length it does less than half of full attention's operations.
Differs: tokens in place of ballets and rooms, supervised learning in place of reinforcement; one layer without the local
         attention that stands beside it in the paper, since nothing near is asked for.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attime.attention.contract import Mixer
from attime.attention.softmax import Softmax
from attime.attention.sparse import HierarchicalChunks, SlidingWindow
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=58,
    title="Towards mental time travel: a hierarchical memory for reinforcement learning agents",
    url="https://arxiv.org/abs/2105.14039",
    parts=(HierarchicalChunks, SlidingWindow),
)
FULL = {"steps": 2000, "chunks": 64, "longer": 10}
CHUNK, EVENTS, SIGNS, MEANINGS, NOISE, DIM = 4, 4, 16, 8, 16, 32


def run(*, steps: int = 200, chunks: int = 16, longer: int = 5, top: int = 4, seed: int = 0) -> Verdict:
    """Train one layer with either memory on events and distraction; then ask after more distraction."""
    torch.manual_seed(seed)
    numbers = {"identity_error": _identity()}
    mixers: dict[str, Mixer] = {
        "chunks": HierarchicalChunks(DIM, heads=2, chunk=CHUNK, top=top, gradient=True),
        "window": SlidingWindow(DIM, heads=2, window=chunks * CHUNK // 4),
    }
    for name, mixer in mixers.items():
        parts = nn.ModuleDict(
            {"embed": nn.Embedding(SIGNS + MEANINGS + NOISE, DIM), "mixer": mixer, "said": nn.Linear(DIM, MEANINGS)}
        )
        optimiser = torch.optim.Adam(parts.parameters(), lr=5e-3)
        generator = torch.Generator().manual_seed(seed)
        for step in range(steps + 2):
            tokens, meaning = _events(
                16 if step < steps else 128, chunks if step <= steps else longer * chunks, generator
            )
            with torch.set_grad_enabled(step < steps):
                logits = parts["said"](mixer(parts["embed"](tokens))[0][:, -EVENTS:]).flatten(0, 1)
            if step < steps:
                optimiser.zero_grad()
                F.cross_entropy(logits, meaning).backward()
                optimiser.step()
            else:
                where = "as trained" if step == steps else "longer"
                numbers[f"right, {name}, {where}"] = float((logits.argmax(-1) == meaning).double().mean())
    length = longer * chunks * CHUNK
    operations = [float(each.cost(length).operations) for each in (mixers["chunks"], Softmax(DIM, heads=2))]
    numbers["operations, share of full attention"] = operations[0] / operations[1]
    failed = {
        "not the identity": numbers["identity_error"] < 1e-10,
        "events are not recalled": numbers["right, chunks, as trained"] >= 0.9,
        "nor after more distraction": numbers["right, chunks, longer"] >= 0.9,
        "the window recalls too": max(numbers[f"right, window, {x}"] for x in ("as trained", "longer"))
        < 1 / MEANINGS + 0.15,
        "it costs as much": numbers["operations, share of full attention"] < 0.5,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def _events(rows: int, chunks: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Chunks of noise; in the first eight of them, at random, signs with their meanings; at last the signs again."""
    tokens = torch.randint(SIGNS + MEANINGS, SIGNS + MEANINGS + NOISE, (rows, chunks, CHUNK), generator=generator)
    where, signs = (torch.rand(rows, n, generator=generator).argsort(1)[:, :EVENTS] for n in (2 * EVENTS, SIGNS))
    meanings = torch.randint(SIGNS, SIGNS + MEANINGS, (rows, EVENTS), generator=generator)
    row = torch.arange(rows)[:, None]
    tokens[row, where, 0], tokens[row, where, 1] = signs, meanings
    order = torch.rand(rows, EVENTS, generator=generator).argsort(1)
    return torch.cat([tokens.flatten(1), signs.gather(1, order)], dim=1), (meanings.gather(1, order) - SIGNS).flatten()


@torch.no_grad()
def _identity() -> float:
    """Distance of the layer with chunks of one token from a single softmax over the summaries of what came before."""
    mixer, x = HierarchicalChunks(8, heads=2, chunk=1, top=100).double(), torch.randn(2, 20, 8, dtype=torch.float64)
    _, guide = mixer.queries(x).chunk(2, dim=-1)
    _, v, s = mixer.memory(x).chunk(3, dim=-1)
    scores = (guide @ s.mT * 8**-0.5).masked_fill(~torch.ones(20, 20, dtype=torch.bool).tril(-1), -torch.inf)
    return float((mixer(x)[0] - mixer.output(scores.softmax(-1).nan_to_num(0.0) @ v)).abs().max())
