"""APE: contexts encoded apart and read side by side, with a temperature and a scale that make up for it.

Claim:   parallel encoding with a shared prefix, a lower temperature inside the contexts and a scale for their mass keeps most
         of the quality of reading contexts in a row, more than parallel encoding alone, and encodes each context only once.
Parts:   memory.joined.join, hub.attach (cache.join)
Proof:   the zoo's byte model reads n pieces of a file, in a row or each by itself after the same prefix, and then the bytes
         that follow. One piece with T = S = 1 must be reading on, and other orders of the pieces must give the same logits,
         both to 1e-5 (in float64); T and S, found by a greedy search on other texts, must win back at least half of the
         nats that plain parallel encoding loses; how often tokens are encoded is counted.
Differs: consecutive pieces of one file in place of retrieved documents, nats of the bytes that follow in place of answers.
         Parallel encoding loses what it must, but T and S win nothing back here: what is lost is which piece came last, and
         not how sharply the model looks into the pieces. Where contexts are independent, as documents are, the zoo's models
         lose nothing that could be won back: the recall model finds all its needles in 4, 8 or 12 contexts read side by
         side with T = S = 1; the byte model reads the value of one entry of a dict of 4 or 8 in 2.93 and 3.03 nats a byte
         side by side and 2.99 and 3.12 in a row (T = 0.3 to 0.5, S = 1: 2.88 and 2.86), of a class of 4 or 8 attributes in
         3.29 and 3.32, 3.31 and 3.42 in a row, whatever T; S below 1 costs in all of these. The identities hold; the claim
         as put here fails.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.hub import attach
from attime.memory.joined import join
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library
from attime.zoo import load

PAPER = Paper(
    number=168,
    title="APE: Faster and Longer Context-Augmented Generation via Adaptive Parallel Encoding",
    url="https://arxiv.org/abs/2502.05431",
    parts=(join, attach),
)
WAIVED = {
    "the_claim_holds": "pieces of one file lose their order, which T and S cannot restore; independent contexts lose nothing"
}
Ask = Callable[..., tuple[Tensor, Tensor]]
FULL = {"rows": 128, "questions": 64}
PREFIX, PIECE, QUERY, TEMPERATURES, SCALES = 16, 40, 48, (0.9, 0.7, 0.5), (0.9, 0.7, 0.5)


@torch.no_grad()
def run(*, pieces: int = 4, rows: int = 8, questions: int = 16, seed: int = 0) -> Verdict:
    """Nats of what follows after pieces in a row, side by side, and side by side with the temperature and scale found."""
    model: Any = load("bytes").model
    held_out, random = standard_library(), np.random.default_rng(seed)
    length = int(model.config.max_position_embeddings)
    texts = []
    for part in (held_out.valid, held_out.test):
        starts = random.integers(len(part) - length, size=rows)
        texts.append(torch.from_numpy(np.stack([part[start : start + length] for start in starts])).long())
    numbers = dict[str, float]()
    with attach(model) as attached:
        ask_valid, _ = _reader(attached, texts[0], pieces)
        ask, row = _reader(attached, texts[1], pieces)
        found = (1.0, 1.0)
        for place, grid in enumerate((TEMPERATURES, SCALES)):
            tries = [found, *((each, found[1]) if place == 0 else (found[0], each) for each in grid)]
            found = min(tries, key=lambda each: _nats(*ask_valid(each, range(pieces))))
        numbers |= {"temperature": found[0], "scale": found[1]}
        read = {"in a row": row(), "side by side": ask((1.0, 1.0), range(pieces)), "ours": ask(found, range(pieces))}
        numbers |= {f"nats, {name}": _nats(*each) for name, each in read.items()}
        model.double()  # identities are shown where rounding is small
        (ask, _), (ask_one, row_one) = (_reader(attached, texts[1][:1], count) for count in (pieces, 1))
        off = {
            "other order": (ask(found, range(pieces)), ask(found, range(pieces)[::-1])),
            "one piece": (ask_one((1.0, 1.0), range(1)), row_one()),
        }
        numbers |= {f"difference, {name}": float((one[0] - two[0]).abs().max()) for name, (one, two) in off.items()}
    lost = numbers["nats, side by side"] - numbers["nats, in a row"]
    numbers["won back"] = (numbers["nats, side by side"] - numbers["nats, ours"]) / lost if lost > 0 else 1.0
    numbers["tokens encoded, in a row over once"] = (PREFIX + questions * pieces * PIECE) / (PREFIX + pieces * PIECE)
    exact = max(numbers["difference, one piece"], numbers["difference, other order"]) < 1e-5
    better = numbers["won back"] >= 0.5
    holds = exact and better
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{exact=}, {better=}")


def _reader(attached: Any, text: Tensor, pieces: int) -> tuple[Ask, Ask]:
    """What asks with pieces side by side, at a temperature, a scale and in an order; and what asks after them in a row.

    Both give logits and the bytes that follow the pieces.
    """
    start, *parts, query = text[:, : PREFIX + PIECE * pieces + QUERY].split([PREFIX, *[PIECE] * pieces, QUERY], dim=1)
    prefix = attached.cache()
    attached.model(start, past_key_values=prefix)
    caches = [prefix.copy() for _ in parts]
    for part, cache in zip(parts, caches, strict=True):
        attached.model(part, past_key_values=cache)

    def ask(found: tuple[float, float], order: range) -> tuple[Tensor, Tensor]:
        joined = prefix.join([caches[number] for number in order], temperature=found[0], scale=found[1])
        return attached.model(query, past_key_values=joined).logits, query

    def row() -> tuple[Tensor, Tensor]:
        read = attached.model(text[:, : PREFIX + PIECE * pieces + QUERY]).logits
        return read[:, -QUERY:], query

    return ask, row


def _nats(logits: Tensor, query: Tensor) -> float:
    """Mean nats of a query's bytes but the first."""
    return float(F.cross_entropy(logits[:, :-1].flatten(0, 1), query[:, 1:].flatten()))
