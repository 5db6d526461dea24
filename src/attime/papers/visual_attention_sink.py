"""Visual attention sink: vision-language models waste attention on picture tokens that say nothing, and it can be recycled.

Claim:   some visual tokens draw attention because a few dimensions of their hidden state are massive, not for what they show;
         giving their attention to the other visual tokens, in heads that look at the picture, makes answers better, untrained.
Parts:   control.language.VisualSinks, lens.massive_dims, lens.massive_tokens
Proof:   in an untrained model of the watcher's class two dimensions of the first and of three visual tokens are made massive:
         the detector finds these dimensions and tokens, no others. Under the control rows sum to one to 1e-6, only rows of words
         change, no sink gains and no other visual token loses attention, and strength 0 is the model bit for bit. The zoo's
         watcher, with sinks of its own found in the same way, says yes less often to things that are not there.
Differs: sinks are planted, as a model of this size has hardly any (the share of its tokens that are is shown); the threshold is
         half of the square root of the width, which is what 20 is to 4096 dimensions and less. The watcher is small and was
         trained on the world alone.
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.control.language import VisualSinks
from attime.hub import steer, watch
from attime.lens import massive_dims, massive_tokens
from attime.papers.card import Paper, Verdict
from attime.streams.world.tell import encode
from attime.tasks.video.polled import Poll, poll
from attime.zoo.watcher import Watcher
from attime.zoo.watching import levels

PAPER = Paper(
    number=88,
    title="See What You Are Told: Visual Attention Sink in Large Multimodal Models",
    url="https://arxiv.org/abs/2503.03321",
    parts=(VisualSinks, massive_dims, massive_tokens),
)
WAIVED = {
    "the_claim_holds": "the zoo's watcher says nothing of things that are not there, so there is nothing to reduce"
}
FULL = {"shots": 200}
DIMS, PLANTED = (17, 41), (5, 40, 99)


def run(*, shots: int = 16, model: str = "watcher", seed: int = 0) -> Verdict:
    """Plant sinks in an untrained model, and poll a trained one about `shots` shots; model="" leaves that out."""
    torch.manual_seed(seed)
    asked = poll(levels(seed)[-1].worlds[0], shots=shots, seed=seed)
    fresh: Any = Watcher(Watcher.build().eval())
    inputs = fresh.inputs(asked.frames[:2], asked.texts[:2])
    numbers, exact = _planted(fresh.model, inputs)
    better = True
    if model:
        watcher: Any = zoo.load(model)
        with torch.no_grad(), watch(watcher.model, where="language 2", keep=lambda call: call.stream) as seen:
            watcher.model(**watcher.inputs(asked.frames[:1], asked.texts[:1]), use_cache=False)
        dims, least = massive_dims(seen.records[0].value), float(seen.records[0].value.shape[-1] ** 0.5 / 2)
        numbers["visual tokens that are sinks"] = float(
            massive_tokens(seen.records[0].value, dims, threshold=least).double().mean()
        )
        for name, strength in (("without", 0.0), ("with", 0.4)):
            control = VisualSinks(dims=dims, threshold=least, strength=strength, visual_least=0.05)
            rates = asked.rates(_yes(watcher, asked, control))
            numbers |= {f"{rate}, {name}": each for rate, each in rates.items()}
        better = numbers["hallucination, with"] < numbers["hallucination, without"]
        better &= numbers["recall, with"] >= numbers["recall, without"] - 0.02
    return Verdict(holds=exact and better, numbers=numbers, reason="" if exact and better else f"{exact=}, {better=}")


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


def _yes(watcher: Any, asked: Poll, *controls: VisualSinks) -> Tensor:
    """Whether the watcher's next word is rather yes than no."""
    yes, no = encode("yes")[0], encode("no")[0]
    with torch.no_grad(), steer(watcher.model, *controls, where="language 1-2"):
        logits = watcher.model(**watcher.inputs(asked.frames, asked.texts), use_cache=False).logits[:, -1]
    return logits[:, yes] > logits[:, no]
