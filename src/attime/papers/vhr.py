"""VHR: some heads look at the picture, the others go on from words; louder, the former make models hallucinate less.

Claim:   the change of a head's output when the picture is taken away tells heads that look from heads that do not; multiplying
         the outputs of the half that looks most lowers hallucination without training.
Parts:   control.language.VisualHeads, control.language.text_only, lens.head_divergence, tasks.video.begun, zoo.habit.primed
Proof:   in an untrained model of the watcher's class the heads that the control reinforces are those of the greatest divergence in
         the first layer, by exactly the factor, and a factor of one is the model bit for bit. The zoo's watcher is primed: it
         reads, without pictures, that things of a colour are usually of one shape. Then it goes on `the red ...` with the usual
         shape though there is another. The half of the heads that look most, twice as loud in the later half of the layers,
         lowers that by a fifth at least, and gives more right shapes than random halves as loud do; without these heads it
         loses at least one and a half times as many right shapes as without random halves.
Differs: sentences that break off before a shape in place of captions (CHAIR); the habit of words is planted in the feed-forward
         weights by 100 steps on text. Random halves share half of their heads with the visual ones, so that without them a
         loss half as great is the least to be had. For yes and no about things (POPE) it matters little which half is louder:
         there all heads of the last layers look. Factor and layers are the paper's (2, the later half) and were not tuned.
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.control.language import VisualHeads, text_only
from attime.hub import steer, watch
from attime.lens import head_divergence, word_divergence
from attime.papers.card import Paper, Verdict
from attime.tasks.video.begun import begun, habits
from attime.zoo.habit import endings, primed
from attime.zoo.watcher import Watcher
from attime.zoo.watching import levels

PAPER = Paper(
    number=84,
    title="Cracking the Code of Hallucination in LVLMs with Vision-aware Head Divergence",
    url="https://arxiv.org/abs/2412.13949",
    parts=(VisualHeads, text_only, head_divergence, word_divergence),
)
FULL = {"shots": 200, "draws": 6}
LATE = "language 2-3"


def run(*, shots: int = 60, factor: float = 2.0, draws: int = 2, model: str = "watcher", seed: int = 0) -> Verdict:
    """Reinforce heads of an untrained model, and of a primed one that ends sentences about `shots` shots; model="" leaves that out."""
    torch.manual_seed(seed)
    usual = habits(seed)
    asked = begun(levels(seed)[-1].worlds[0], usual, shots=shots, seed=seed)
    fresh: Any = Watcher(Watcher.build().eval())
    numbers, exact = _reinforced(fresh, fresh.inputs(asked.frames[:2], asked.texts[:2]))
    better = True
    if model:
        watcher = primed(zoo.load(model), usual, seed=seed)  # pyright: ignore[reportArgumentType]
        without = _blind(watcher, watcher.inputs(asked.frames, asked.texts))
        random = torch.Generator().manual_seed(seed)
        chance = [100 * torch.randn(without.shape, generator=random) for _ in range(draws)]
        ways = {"as it is": [(without, 0.0)]}
        for name, halves in (("visual", [without]), ("random", chance)):
            ways[f"{name} heads louder"] = [(half, factor - 1) for half in halves]
            ways[f"without {name} heads"] = [(half, -1.0) for half in halves]
        for name, halves in ways.items():
            for half, strength in halves:
                with torch.no_grad(), steer(watcher.model, VisualHeads(without=half, strength=strength), where=LATE):
                    rates = asked.rates(endings(watcher, asked).argmax(-1))
                for rate, value in rates.items():
                    key = f"{rate}, {name}"
                    numbers[key] = numbers.get(key, 0.0) + value / len(halves)
        less = numbers["hallucination, visual heads louder"] <= 0.8 * numbers["hallucination, as it is"]
        chosen = numbers["right, visual heads louder"] > max(
            numbers["right, as it is"], numbers["right, random heads louder"]
        )
        lost = [numbers["right, as it is"] - numbers[f"right, without {name} heads"] for name in ("visual", "random")]
        better = less and chosen and lost[0] >= 1.5 * max(lost[1], 0.0) and lost[0] > 0
    return Verdict(holds=exact and better, numbers=numbers, reason="" if exact and better else f"{exact=}, {better=}")


def _reinforced(fresh: Any, inputs: dict[str, Tensor]) -> tuple[dict[str, float], bool]:
    """By how much the heads of the first layer are louder, against what their divergence says, and whether a factor of one is nothing."""
    without, model = _blind(fresh, inputs), fresh.model
    with torch.no_grad():
        with (
            steer(model, VisualHeads(without=without), where="language 0"),
            watch(model, where="language 0", keep="outputs") as seen,
        ):
            model(**inputs, use_cache=False)
        with steer(model, VisualHeads(without=without, strength=0.0)):
            still = model(**inputs, use_cache=False).logits
        with watch(model, where="language 0", keep="outputs") as first:
            untouched = torch.equal(model(**inputs, use_cache=False).logits, still)
    last = first.records[0].value[:, :, -1]
    gain = (seen.records[0].value[:, :, -1] / last).mean(-1)
    far = head_divergence(last, without[:, 0])
    odd = far > far.mean(1, keepdim=True) + far.std(1, correction=0, keepdim=True)
    far = far.masked_fill(odd & (last.norm(dim=-1) < without[:, 0].norm(dim=-1)), 0)
    top = far >= far.topk(2, dim=1).values[:, -1:]
    right = float(((gain - 1 - top.float()).abs() < 1e-4).float().mean())
    return {"reinforced as measured": right}, right == 1.0 and untouched


@torch.no_grad()
def _blind(watcher: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Outputs at the last token of the words alone."""
    ids = inputs["input_ids"]
    words = int((ids[0] == watcher.model.config.vision_end_token_id).nonzero()[0, 0]) + 1
    with watch(watcher.model, where="language", keep="outputs") as seen:
        watcher.model(input_ids=ids[:, words:], use_cache=False)
    return text_only(seen)
