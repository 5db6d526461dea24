"""Clips told in words, one caption for each frame, and questions about them: what is asked of a video, without a video.

    Frame 1: a red square
    Frame 2: a blue circle
    Frame 3: a green star          which comes first : the green star or the blue circle ?

Whoever learns to answer from such text should answer better about videos too, if it sees frames as it reads captions.
Every question keeps the scene that it is about, so that the same one can be asked of the painted frames.

Source:  Temporal Reasoning Transfer from Text to Video (T3), arXiv 2410.06166: questions of order, of change of an
         attribute, of what is at a named time (referring) and of when something is (grounding), over image captions.
Differs: captions and questions come from rules and not from a language model; each frame shows one thing of the world.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from attime.errors import AttimeError
from attime.part import Part
from attime.streams.world import COLOURS, SHAPES, Event, Shot, Thing
from attime.tasks.contract import Traits

__all__ = ["ASPECTS", "Told", "ToldFrames"]


@dataclass(frozen=True, kw_only=True)
class Told:
    """A question about a clip that is told."""

    captions: tuple[str, ...]
    """One for each frame."""
    question: str
    options: tuple[str, ...]
    answer: str
    aspect: str
    shot: Shot
    """What the frames show, one second each."""

    @property
    def text(self) -> str:
        """The clip in words."""
        return "\n".join(f"Frame {number}: {caption}" for number, caption in enumerate(self.captions, start=1))

    @property
    def when_s(self) -> tuple[float, ...]:
        """The middle of each frame."""
        return tuple(number + 0.5 for number in range(len(self.captions)))


@final
@dataclass(frozen=True, kw_only=True)
class ToldFrames(Part):
    """Questions about told clips (see the module docstring), each aspect as often as any other."""

    traits: ClassVar[Traits] = Traits(batches=False)

    aspects: tuple[str, ...] = ("order", "referring", "grounding", "change", "presence", "colour")
    """Of which presence and colour need no time: they do not change when frames change places."""
    frames: int = 4
    questions: int = 600

    def __post_init__(self) -> None:
        unknown = set(self.aspects) - set(ASPECTS)
        if unknown or not self.aspects or not 3 <= self.frames <= len(SHAPES) or self.questions < 1:
            raise AttimeError(
                f"ToldFrames needs aspects among {', '.join(ASPECTS)}, 3 to {len(SHAPES)} frames and questions >= 1; "
                f"got aspects={self.aspects}, frames={self.frames}, questions={self.questions}."
            )

    @property
    def protocol(self) -> str:
        """The name under which results are comparable."""
        return f"told-frames/{'-'.join(self.aspects)}-{self.frames}-frames-{self.questions}-questions"

    def items(self, *, seed: int = 0) -> list[Told]:
        """All questions, the same for the same seed."""
        random = np.random.default_rng(seed)
        made = []
        for number in range(self.questions):
            aspect = self.aspects[number % len(self.aspects)]
            names = _names(random, self.frames, again=aspect == "change")
            question, options, answer = ASPECTS[aspect](names, random)
            captions = tuple(f"a {colour} {shape}" for colour, shape in names)
            told = Told(
                captions=captions, question=question, options=options, answer=answer, aspect=aspect, shot=_slides(names)
            )
            made.append(told)
        return made

    def chance(self) -> Mapping[str, float]:
        """The expected accuracy of a guess, for each aspect."""
        items = self.items()
        return {
            aspect: float(np.mean([1 / len(item.options) for item in items if item.aspect == aspect]))
            for aspect in self.aspects
        }

    @classmethod
    def examples(cls) -> Sequence["ToldFrames"]:
        return [cls(questions=24), cls(aspects=("order", "presence"), frames=6, questions=10)]


Name = tuple[str, str]
Asked = tuple[str, tuple[str, ...], str]


def _names(random: np.random.Generator, frames: int, *, again: bool) -> list[Name]:
    """A colour and a shape for each frame, all different; with `again` one shape comes twice."""
    colours = random.permutation(list(COLOURS))[:frames].tolist()
    shapes = random.permutation(SHAPES)[:frames].tolist()
    if again:
        one, other = random.permutation(frames)[:2].tolist()
        shapes[one] = shapes[other]
    return list(zip(colours, shapes, strict=True))


def _slides(names: Sequence[Name]) -> Shot:
    """One thing after the other, each for a second."""
    things = [Thing(colour=colour, shape=shape, place=(0.5, 0.5), radius=0.32) for colour, shape in names]
    events = [Event(kind="flash", who=who, start_s=float(who), stop_s=who + 1.0) for who in range(len(names))]
    return Shot(start_s=0.0, stop_s=float(len(names)), things=tuple(things), events=tuple(events))


def _order(names: Sequence[Name], random: np.random.Generator) -> Asked:
    one, other = random.permutation(len(names))[:2].tolist()
    options = tuple(" ".join(names[each]) for each in (one, other))
    return f"which comes first : the {options[0]} or the {options[1]} ?", options, " ".join(names[min(one, other)])


def _referring(names: Sequence[Name], random: np.random.Generator) -> Asked:
    end = bool(random.random() < 0.5)
    options = tuple(" ".join(name) for name in names)
    mixed = tuple(options[each] for each in random.permutation(len(options)))
    return f"what is there at the {'end' if end else 'start'} ?", mixed, options[-1 if end else 0]


def _grounding(names: Sequence[Name], random: np.random.Generator) -> Asked:
    who = int(random.integers(len(names)))
    options = tuple(str(number) for number in range(1, len(names) + 1))
    return f"in which frame is the {' '.join(names[who])} ?", options, options[who]


def _change(names: Sequence[Name], random: np.random.Generator) -> Asked:
    shapes = [shape for _, shape in names]
    twice = next(shape for shape in shapes if shapes.count(shape) == 2)
    last = [colour for colour, shape in names if shape == twice][-1]
    return f"what colour does the {twice} become ?", tuple(sorted({colour for colour, _ in names})), last


def _presence(names: Sequence[Name], random: np.random.Generator) -> Asked:
    yes = bool(random.random() < 0.5)
    absent = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in names]
    colour, shape = (names if yes else absent)[int(random.integers(len(names if yes else absent)))]
    return f"is there a {colour} {shape} ?", ("yes", "no"), "yes" if yes else "no"


def _colour(names: Sequence[Name], random: np.random.Generator) -> Asked:
    colour, shape = names[int(random.integers(len(names)))]
    return f"what colour is the {shape} ?", tuple(sorted({colour for colour, _ in names})), colour


ASPECTS: dict[str, Callable[[Sequence[Name], np.random.Generator], Asked]] = {
    "order": _order,
    "referring": _referring,
    "grounding": _grounding,
    "change": _change,
    "presence": _presence,
    "colour": _colour,
}
"""What can be asked; the last two need no time."""
