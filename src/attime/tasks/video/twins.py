"""A shot and its twin, which looks the same in the middle, with the questions to which they give different answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.streams.world import Shot, questions
from attime.streams.world.conflicts import beside, faster, in_turn, reversed_shot
from attime.streams.world.tell import VERBS
from attime.tasks.quiz import Clip
from attime.tasks.video.stage import FRAMES, film

__all__ = ["TWINS", "Conflict"]

Frames = NDArray[np.uint8]
FACTOR = 2.5  # from the world's slow to its fast
BACKWARDS = {"action": ("appears", "vanishes"), "change": ("grows", "shrinks")}  # answers to what somebody does


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Two clips and what is true of each of them and not of the other."""

    clips: tuple[Clip, Clip]
    question: str
    answers: tuple[str, str]
    claims: tuple[str, str]
    """For each clip a question that is to be answered with yes."""
    captions: tuple[str, str]


def _backwards(shot: Shot, noise: float, *, aspect: str, kind: str) -> list[Conflict]:
    """The shot and itself played backwards."""
    try:
        twin = reversed_shot(shot)
    except AttimeError:
        return []
    found = [
        conflict
        for conflict in _between(shot, twin, noise, kind)
        if aspect not in BACKWARDS or set(conflict.answers) == set(BACKWARDS[aspect])
    ]
    return [*found, *_colours(shot, twin, noise)] if aspect == "change" else found


def _quickened(shot: Shot, noise: float) -> list[Conflict]:
    """The shot and itself at more than twice the speed."""
    return _between(shot, faster(shot, FACTOR), noise, "speed")


def _side_by_side(shot: Shot, noise: float) -> list[Conflict]:
    """Slow on the left and fast on the right, or the other way round."""
    slow, fast = (film(each, noise=noise) for each in (shot, faster(shot, FACTOR)))
    return [
        Conflict(
            clips=(_joined(beside, fast, slow), _joined(beside, slow, fast)),
            question=f"where does the {who} move fast ?",
            answers=("left", "right"),
            claims=(f"does the left {who} move fast ?", f"does the right {who} move fast ?"),
            captions=(f"the left {who} moves fast", f"the right {who} moves fast"),
        )
        for who in _slow(shot)
    ]


def _one_after_the_other(shot: Shot, noise: float) -> list[Conflict]:
    """The whole shot slow and then fast, or the other way round, in half as many frames each."""
    quick = faster(shot, FACTOR, about_s=shot.start_s)
    slow, fast = (film(each, noise=noise, frames=FRAMES // 2) for each in (shot, quick))
    return [
        Conflict(
            clips=(_joined(in_turn, slow, fast), _joined(in_turn, fast, slow)),
            question=f"how does the {who} move first ?",
            answers=("slowly", "fast"),
            claims=(f"does the {who} first move slowly ?", f"does the {who} first move fast ?"),
            captions=(f"the {who} moves slowly then fast", f"the {who} moves fast then slowly"),
        )
        for who in _slow(shot)
    ]


TWINS: dict[str, Callable[[Shot, float], list[Conflict]]] = {
    "action": partial(_backwards, aspect="action", kind="what"),
    "direction": partial(_backwards, aspect="direction", kind="direction"),
    "speed": _quickened,
    "relative speed": _side_by_side,
    "changing speed": _one_after_the_other,
    "order": partial(_backwards, aspect="order", kind="order"),
    "change": partial(_backwards, aspect="change", kind="what"),
}
"""For each aspect, what makes conflicts of a shot and a deviation of noise."""


def _between(shot: Shot, twin: Shot, noise: float, kind: str) -> list[Conflict]:
    """Questions of one kind that both shots answer, differently."""
    ours, theirs = ({each.text: each.answer for each in questions(each, kinds=(kind,))} for each in (shot, twin))
    clips = (film(shot, noise=noise), film(twin, noise=noise))
    made = []
    for text in ours.keys() & theirs.keys():
        answers = (ours[text], theirs[text])
        if answers[0] != answers[1] and not re.search(r"(circle|ring) turn", text):  # which nobody can see
            (claim, caption), (other_claim, other_caption) = (_told(text, *pair) for pair in (answers, answers[::-1]))
            claims, captions = (claim, other_claim), (caption, other_caption)
            made.append(Conflict(clips=clips, question=text, answers=answers, claims=claims, captions=captions))
    return sorted(made, key=lambda conflict: conflict.question)


def _told(question: str, answer: str, other: str) -> tuple[str, str]:
    """The answer as a question to be answered with yes, and as a caption."""
    moved = re.fullmatch(r"(?:which way|how fast) does (the .+) (\w+) \?", question)
    if moved:
        who, verb = moved.groups()
        return f"does {who} {verb} {answer} ?", f"{who} {VERBS[verb]} {answer}"
    acted = re.fullmatch(r"what does (the .+) do \?", question)
    if acted:
        verb = next(verb for verb, told in VERBS.items() if told == answer)
        return f"does {acted[1]} {verb} ?", f"{acted[1]} {answer}"
    return f"is the {answer} first ?", f"first the {answer} then the {other}"


def _colours(shot: Shot, twin: Shot, noise: float) -> list[Conflict]:
    """From one colour to another, and back."""
    made = []
    for who, thing in enumerate(shot.things):
        events = shot.of(who, "recolour")
        alone = sum(other.shape == thing.shape for other in shot.things) == 1
        if len(events) == 1 and alone and events[0].way != thing.colour:
            colours = (thing.colour, events[0].way)
            changes = tuple(f"from {before} to {after}" for before, after in (colours, colours[::-1]))
            made.append(
                Conflict(
                    clips=(film(shot, noise=noise), film(twin, noise=noise)),
                    question=f"what happens to the {thing.shape} ?",
                    answers=(changes[0], changes[1]),
                    claims=(f"is the {thing.shape} first {colours[0]} ?", f"is the {thing.shape} first {colours[1]} ?"),
                    captions=(f"the {thing.shape} changes {changes[0]}", f"the {thing.shape} changes {changes[1]}"),
                )
            )
    return made


def _slow(shot: Shot) -> list[str]:
    """Names of the things that move once, slowly."""
    found = questions(shot, kinds=("speed",))
    return sorted(each.about[0] for each in found if each.answer == "slowly" and each.about[0] != "camera")


def _joined(join: Callable[[Frames, Frames], Frames], one: Clip, other: Clip) -> Clip:
    return replace(one, source=lambda: join(one.frames, other.frames))
