"""PINE: language models that do not care in which order their sources come.

Claim:   bidirectional attention between segments, and positions given by importance in place of order, make a trained model's
         answer independent of the order of its segments without training, and no worse.
Parts:   control.language.AnyOrder
Proof:   an untrained Llama in float64 says the same to 1e-10 in every order of its segments, where without the control its
         logits differ. The zoo's recall model looks values up among pairs that lie in four segments, in several orders: with
         the control all predictions are the same in all orders, without it they are not all; lookups are right as often as
         without it, to one point.
Differs: lookups of keys in place of judging and reasoning. The recall model has learnt to ignore the order of its pairs: what
         moves without the control are predictions at noise, where nothing is to be known, and not the share of right lookups.
"""

from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.control.language import AnyOrder
from attime.hub import steer
from attime.papers.card import Paper, Verdict
from attime.zoo.recall import RECALL, Recaller

PAPER = Paper(
    number=221,
    title="Eliminating Position Bias of Language Models: A Mechanistic Approach",
    url="https://arxiv.org/abs/2407.01100",
    parts=(AnyOrder,),
)
FULL = {"rows": 64, "orders": 24, "behind": 64}


def run(*, rows: int = 12, orders: int = 4, behind: int = 24, seed: int = 0) -> Verdict:
    """Read `rows` rows of pairs in so many orders of four segments, and `behind` tokens after them."""
    torch.manual_seed(seed)
    length = 2 * RECALL.pairs // 4
    segments = tuple((start, start + length) for start in range(0, 4 * length, length))
    batch = next(RECALL.train(seed=1_000_003 + seed, batch=rows))
    ids, scored = batch.inputs[:, : 4 * length + behind], batch.scored[:, : 4 * length + behind]
    every = list(permutations(range(4)))[:: 24 // orders][:orders]
    fresh: Any = Recaller.build().double().eval()
    spread = {}
    for name, controls in (
        ("with", [AnyOrder(segments=segments)]),
        ("without", [AnyOrder(segments=segments, strength=0.0)]),
    ):
        said = _read(fresh, ids[:2], every, controls, length)
        spread[name] = float((said - said[:1]).abs().max())
    trained: Any = zoo.load("recall").model.double().eval()
    wanted = torch.zeros_like(batch.inputs).masked_scatter(batch.scored, batch.targets)
    targets = wanted[:, : ids.shape[1]][scored]
    numbers = {f"logits differ by, untrained, {name}": each for name, each in spread.items()}
    for name, strength in (("with", 1.0), ("without", 0.0)):
        said = _read(trained, ids, every, [AnyOrder(segments=segments, strength=strength)], length)
        best = said.argmax(-1)
        numbers[f"logits differ by, recall, {name}"] = float((said - said[:1]).abs().max())
        numbers[f"predictions that move, {name}"] = float((best != best[:1]).any(0).double().mean())
        right = (best[:, scored[:, 4 * length :]] == targets).double().mean(1)
        numbers[f"accuracy, {name}"], numbers[f"spread of accuracy, {name}"] = float(right.mean()), float(right.std())
    exact = spread["with"] < 1e-10 < 1e-4 < spread["without"]
    same = numbers["predictions that move, with"] == 0.0 < numbers["predictions that move, without"]
    same &= numbers["accuracy, with"] >= numbers["accuracy, without"] - 0.01
    return Verdict(holds=exact and same, numbers=numbers, reason="" if exact and same else f"{exact=}, {same=}")


def _read(model: Any, ids: Tensor, orders: list[tuple[int, ...]], controls: list[AnyOrder], length: int) -> Tensor:
    """Logits (orders rows behind vocabulary) behind the segments."""
    pieces, rest, said = ids[:, : 4 * length].split(length, dim=1), ids[:, 4 * length :], []
    for order in orders:
        with torch.no_grad(), steer(model, *controls):
            logits = model(torch.cat([*(pieces[each] for each in order), rest], dim=1), use_cache=False).logits
        said.append(logits[:, 4 * length :])
    return torch.stack(said)
