"""Visual attention sink: vision-language models waste attention on picture tokens that say nothing, and it can be recycled.

Claim:   some visual tokens draw attention because a few dimensions of their hidden state are massive, not for what they show;
         giving their attention to the other visual tokens, in heads that look at the picture, makes answers better, untrained.
Parts:   control.language.VisualSinks, lens.massive_dims, lens.massive_tokens, tasks.video.begun, zoo.habit.primed
Proof:   in an untrained model of the watcher's class two dimensions of the first and of three visual tokens are made massive:
         the detector finds these dimensions and tokens, no others. Under the control rows sum to one to 1e-6, only rows of words
         change, no sink gains and no other visual token loses attention, and strength 0 is the model bit for bit.
Differs: that answers get better is not shown, it is measured: the watcher, primed by text so that it goes on `the red ...` with a
         usual shape that is not there, says .20 of such shapes with the control and without it (.32 and .32, .22 and .22 at seeds
         1 and 2), and no more right ones: none of its tokens is a sink by the same measure. So sinks are planted. The
         threshold is half of the square root of the width, which is what 20 is to 4096 dimensions and less.
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.control.language import VisualSinks
from attime.hub import steer, watch
from attime.lens import massive_dims, massive_tokens
from attime.papers.card import Paper, Verdict
from attime.tasks.video.begun import begun, habits
from attime.zoo.habit import endings, primed
from attime.zoo.watcher import Watcher
from attime.zoo.watching import levels

PAPER = Paper(
    number=88,
    title="See What You Are Told: Visual Attention Sink in Large Multimodal Models",
    url="https://arxiv.org/abs/2503.03321",
    parts=(VisualSinks, massive_dims, massive_tokens),
)
FULL = {"shots": 200}
DIMS, PLANTED = (17, 41), (5, 40, 99)


def run(*, shots: int = 40, model: str = "watcher", seed: int = 0) -> Verdict:
    """Plant sinks in an untrained model, and let a primed one end sentences about `shots` shots; model="" leaves that out."""
    torch.manual_seed(seed)
    usual = habits(seed)
    asked = begun(levels(seed)[-1].worlds[0], usual, shots=shots, seed=seed)
    fresh: Any = Watcher(Watcher.build().eval())
    inputs = fresh.inputs(asked.frames[:2], asked.texts[:2])
    numbers, exact = _planted(fresh.model, inputs)
    if model:
        watcher = primed(zoo.load(model), usual, seed=seed)  # pyright: ignore[reportArgumentType]
        inputs = watcher.inputs(asked.frames[:8], asked.texts[:8])
        with torch.no_grad(), watch(watcher.model, where="language 2", keep=lambda call: call.stream) as seen:
            watcher.model(**inputs, use_cache=False)
        stream, visual = seen.records[0].value, inputs["input_ids"] == fresh.model.config.video_token_id
        dims, least = massive_dims(stream), float(stream.shape[-1] ** 0.5 / 2)
        sinks = massive_tokens(stream, dims, threshold=least)
        numbers["words that are sinks"] = float(sinks[~visual].double().mean())
        numbers["visual tokens that are sinks"] = float(sinks[visual].double().mean())
        for name, strength in (("without", 0.0), ("with", 0.4)):
            control = VisualSinks(dims=dims, threshold=least, strength=strength)
            with torch.no_grad(), steer(watcher.model, control, where="language 1-2"):
                rates = asked.rates(endings(watcher, asked).argmax(-1))
            numbers |= {f"{rate}, {name}": each for rate, each in rates.items()}
    return Verdict(
        holds=exact, numbers=numbers, reason="" if exact else "sinks are missed, or maps change where they should not"
    )


def _planted(model: Any, inputs: dict[str, Tensor]) -> tuple[dict[str, float], bool]:
    """What the detector finds of planted sinks, and what the control does to maps."""
    visual = inputs["input_ids"] == model.config.video_token_id
    sinks = torch.zeros_like(visual)
    sinks[:, 0] = True
    for row in range(len(visual)):
        sinks[row, visual[row].nonzero()[list(PLANTED), 0]] = True

    def plant(module: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        hidden = (args[0] if args else kwargs["hidden_states"]).clone()
        hidden[sinks] = hidden[sinks].index_fill(1, torch.tensor(DIMS), 30 * float(hidden.std()))
        return (hidden, *args[1:]), {key: each for key, each in kwargs.items() if key != "hidden_states"}

    hook = model.model.language_model.layers[2].register_forward_pre_hook(plant, with_kwargs=True)
    control = VisualSinks(dims=DIMS, threshold=4.0, visual_least=0.0, sinks_most=1.0)
    with torch.no_grad():
        plain = model(**inputs, use_cache=False).logits
        with (
            watch(model, where="language 2", keep=lambda call: call.stream) as stream,
            steer(model, VisualSinks(dims=DIMS, strength=0.0)),
        ):
            still = model(**inputs, use_cache=False).logits
        maps = []
        for controls in ([VisualSinks(dims=DIMS, strength=0.0)], [control]):
            with steer(model, *controls, where="language 2"), watch(model, where="language 2") as seen:
                model(**inputs, use_cache=False)
            maps.append(seen.records[0].value)
    hook.remove()
    before, after = maps
    found = massive_tokens(stream.records[0].value, DIMS, threshold=4.0)
    change = (after - before).movedim(3, 1)  # batch key heads query
    moved = change.abs().amax((1, 2)) > 1e-7
    numbers = {
        "planted dimensions found": float(set(massive_dims(stream.records[0].value)) == set(DIMS)),
        "planted tokens found": float((found == sinks).double().mean()),
        "rows off one by": float((after.sum(-1) - 1).abs().max()),
        "a sink gains at most": float(change[sinks].max()),
        "another visual token loses at most": -float(change[visual & ~sinks].min()),
    }
    exact = numbers["planted dimensions found"] == numbers["planted tokens found"] == 1 and torch.equal(plain, still)
    exact &= max(list(numbers.values())[2:]) < 1e-6 and bool(moved.any()) and not bool((moved & visual).any())
    return numbers, exact
