"""OVO-Bench: questions asked at a time of a stream, about what was, what is, and what is not yet.

Claim:   to understand a video online is to trace back, to see what is there now, and to wait until a clue has come; nine
         video language models are far from people in it, most of all in waiting (forward active responding).
Parts:   tasks.video.Online, tasks.video.Live, tasks.video.FrameMemory, tasks.video.foresight, zoo.load("watcher")
Proof:   on streams of the world: who knows has 1 in all three scenarios; who always answers now, though with what will be
         right in the end, has less than 0.5 in forward responding; an offline cheater, who recognises whole clips, is
         flagged (more than 0.3 of its answers change when only the future is changed), and a witness that is fed frame by
         frame is not (0 exactly). The zoo's watcher, with the last 16 frames and with 16 spread over the past, must do
         better on what is there now than on what is not yet, where it must stay below 0.5: it never waits.
Differs: the world has no text to read; half of what may be `unable to answer` has an answer. The watcher answers by the
         likeliest option it has words for, which neither `not yet` nor `unable to answer` is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attime import zoo
from attime.papers.card import Paper, Verdict
from attime.tasks.quiz import Item, Observer, one_frame, oracle
from attime.tasks.video.live import FrameMemory, Live, foresight
from attime.tasks.video.online import SCENARIOS, Online
from attime.tasks.video.stream_questions import NOT_YET, UNABLE

PAPER = Paper(
    number=27,
    title="OVO-Bench: How Far is Your Video-LLMs from Real-World Online Video Understanding?",
    url="https://arxiv.org/abs/2501.05510",
    parts=(Online, Live, FrameMemory, foresight),
)
WAIVED = {"the_claim_holds": "the zoo's watcher knows clips of 4 s and is near chance on the longer ones of this task"}
FULL = {"streams": 40, "every": 1}


def run(*, streams: int = 6, every: int = 4, model: str = "watcher", seed: int = 0) -> Verdict:
    """Score who knows, guesses, never waits and cheats, and, on each of `every` questions, the model (if not "")."""
    quiz = Online(streams=streams)
    items = quiz.items(seed=seed)
    hasty, cheater = _in_the_end(items)
    scores = {"oracle": quiz.grade(items, oracle), "chance": quiz.chance(seed=seed), "hasty": quiz.grade(items, hasty)}
    if model:
        answer, some = _answers(zoo.load(model)), items[::every]
        for keep in ("latest", "even"):
            scores[f"{model}, {keep}"] = quiz.grade(some, Live(lambda keep=keep: FrameMemory(answer, keep=keep)))
        scores[f"{model}, one frame"] = quiz.grade(some, one_frame(Live(lambda: FrameMemory(answer)), place=1.0))
    witness = Live(lambda: FrameMemory(lambda frames, _, options: options[int(frames.sum()) % len(options)]))
    numbers = {f"{who} {name}": each[name] for who, each in scores.items() for name in ("accuracy", *SCENARIOS)}
    numbers |= {"cheater looks ahead": foresight(cheater, items), "witness looks ahead": foresight(witness, items)}
    known = set(scores["oracle"].values()) == {1.0}
    waits = numbers["hasty forward"] < 0.5
    caught = numbers["cheater looks ahead"] > 0.3 and numbers["witness looks ahead"] == 0
    now, later = (numbers.get(f"{model}, latest {scenario}", 0.0) for scenario in ("real-time", "forward"))
    gap = not model or later < min(0.5, now)
    holds = known and waits and caught and gap
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{known=}, {waits=}, {caught=}, {gap=}")


def _in_the_end(items: Sequence[Item]) -> tuple[Observer, Observer]:
    """Who says at once what will be right in the end, and who does so for clips that it recognises as a whole."""
    ends = {item.group: item.answer for item in items if item.form == "forward" and item.answer not in (NOT_YET, "no")}
    clips = {item.clip.frames.tobytes() for item in items}

    def hasty(item: Item) -> str:
        return ends.get(item.group, item.options[0])

    def cheater(item: Item) -> str:
        return hasty(item) if item.clip.frames.tobytes() in clips else item.options[-1]

    return hasty, cheater


def _answers(watcher: Any) -> Callable[[NDArray[np.uint8], str, Sequence[str]], str]:
    """The likeliest option that the model has words for."""

    def answer(frames: NDArray[np.uint8], question: str, options: Sequence[str]) -> str:
        known = [option for option in options if option not in (NOT_YET, UNABLE)]
        return known[int(np.argmax(watcher.scores(frames, question, known)))]

    return answer
