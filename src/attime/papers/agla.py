"""AGLA: an answer from the whole picture and from the part that the question is about.

Claim:   models overlook local features that tell whether a thing is there; logits of the whole picture and of a view that keeps
         what fits the question, added up, hallucinate less than the whole picture alone, without training.
Parts:   control.language.LocalView, control.language.relevance, control.language.most_relevant, control.language.assembled
Proof:   with weight 0 the assembled logits are those of the whole bit for bit, and hidden tokens get no attention from words in an
         untrained model of the watcher's class. Polled about things that are there and that are not, the zoo's watcher says yes
         to the latter less often with views kept by gradients of its own attention than alone, and than with random views of the
         same size.
Differs: the model is its own matcher (gradient of its yes against no times attention, of all layers), there is no BLIP; views hide
         visual tokens and not pixels. The assembly of logits belongs to no site: it is a function of two calls.
"""

from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.control.language import LocalView, assembled, most_relevant, relevance
from attime.hub import steer, watch
from attime.papers.card import Paper, Verdict
from attime.streams.world.tell import encode
from attime.tasks.video.polled import Poll, poll
from attime.zoo.watcher import Watcher
from attime.zoo.watching import levels

PAPER = Paper(
    number=116,
    title="AGLA: Mitigating Object Hallucinations in Large Vision-Language Models with Assembly of Global and Local Attention",
    url="https://arxiv.org/abs/2406.12718",
    parts=(LocalView, relevance, most_relevant, assembled),
)
WAIVED = {
    "the_claim_holds": "the zoo's watcher says nothing of things that are not there, so there is nothing to reduce"
}
FULL = {"shots": 200}


def run(*, shots: int = 16, weight: float = 2.0, model: str = "watcher", seed: int = 0) -> Verdict:
    """Hide tokens from an untrained model, and poll a trained one about `shots` shots; model="" leaves that out."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    asked = poll(levels(seed)[-1].worlds[0], shots=shots, seed=seed)
    fresh: Any = Watcher(Watcher.build().eval())
    inputs = fresh.inputs(asked.frames[:2], asked.texts[:2])
    visual = inputs["input_ids"] == fresh.model.config.video_token_id
    keep = torch.rand(2, int(visual[0].sum()), generator=generator) < 0.5
    hidden = torch.zeros_like(visual).masked_scatter(visual, ~keep)
    with torch.no_grad(), steer(fresh.model, LocalView(keep=keep)), watch(fresh.model, where="language") as seen:
        local = fresh.model(**inputs, use_cache=False).logits[:, -1]
    with torch.no_grad():
        whole = fresh.model(**inputs, use_cache=False).logits[:, -1]
    leak = max(float((each.value[:, :, -1] * hidden[:, None]).max()) for each in seen)
    numbers = {"attention to hidden tokens": leak}
    exact, better = torch.equal(assembled(whole, local, weight=0.0, least=0.0), whole) and leak == 0.0, True
    if model:
        watcher: Any = zoo.load(model)
        whole, scores = _matched(watcher, asked)
        match = (whole[:, 0] - whole[:, 1]).sigmoid()
        views = {"relevant": scores, "random": torch.rand(scores.shape, generator=generator)}
        numbers |= {f"{rate}, whole": each for rate, each in asked.rates(whole[:, 0] > whole[:, 1]).items()}
        for name, view in views.items():
            with steer(watcher.model, LocalView(keep=most_relevant(view, match=match))):
                both = assembled(whole, _answers(watcher, asked), weight=weight)
            numbers |= {f"{rate}, {name}": each for rate, each in asked.rates(both[:, 0] > both[:, 1]).items()}
        better = numbers["hallucination, relevant"] < min(
            numbers["hallucination, whole"], numbers["hallucination, random"]
        )
    return Verdict(holds=exact and better, numbers=numbers, reason="" if exact and better else f"{exact=}, {better=}")


@torch.no_grad()
def _answers(watcher: Any, asked: Poll) -> Tensor:
    """Logits of yes and no as the next word."""
    words = [encode("yes")[0], encode("no")[0]]
    return watcher.model(**watcher.inputs(asked.frames, asked.texts), use_cache=False).logits[:, -1, words]


def _matched(watcher: Any, asked: Poll) -> tuple[Tensor, Tensor]:
    """The same of the whole picture, and how relevant each visual token is to the question."""
    words, inputs = [encode("yes")[0], encode("no")[0]], watcher.inputs(asked.frames, asked.texts)
    visual = inputs["input_ids"] == watcher.model.config.video_token_id
    behind = int(visual[0].nonzero()[-1, 0]) + 2
    with torch.enable_grad(), watch(watcher.model, where="language", detach=False) as seen:
        logits = watcher.model(**inputs, use_cache=False).logits[:, -1, words]
        maps = [record.value for record in seen]
        gradients = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), maps)
    pairs = zip(maps, gradients, strict=True)
    found = sum(relevance(one[:, :, behind:].detach(), two[:, :, behind:]) for one, two in pairs)
    assert isinstance(found, Tensor)
    return logits.detach(), found[visual].reshape(len(found), -1)
