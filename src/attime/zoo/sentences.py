"""The sentences that a painter understands, as numbers, and clips drawn from the world to match them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attime.errors import AttimeError
from attime.streams.world import WAYS, Event, Shot, Thing, paint_many
from attime.streams.world.world import SPEEDS

__all__ = ["Asked", "Sentences"]

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("square", "circle", "triangle")
VOCABULARY = ("<pad>", "the", "moves", *COLOURS, *SHAPES, *WAYS, *SPEEDS)
LENGTH = 6
"""Words of the longest sentence."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one sentence asks for."""

    colour: str
    shape: str
    way: str
    pace: str
    """slowly or fast; empty where the sentence does not say."""


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """`the red square moves left slowly`: a few colours and shapes, four ways, and the paces, or none.

    Without paces it is not told whether a clip moves at all: half of the clips rest, half move fast.
    """

    colours: tuple[str, ...] = COLOURS
    shapes: tuple[str, ...] = SHAPES
    paces: tuple[str, ...] = tuple(SPEEDS)
    radius: float = 0.15
    fps: float = 4.0

    @property
    def width(self) -> int:
        """Numbers per word: one place for each word of the vocabulary."""
        return len(VOCABULARY)

    @property
    def all(self) -> tuple[str, ...]:
        """Every sentence."""
        return tuple(
            f"the {colour} {shape} moves {way} {pace}".strip()
            for colour, shape, way, pace in product(self.colours, self.shapes, WAYS, self.paces or ("",))
        )

    def speed(self, pace: str) -> float:
        """Stage widths per frame of a pace."""
        return SPEEDS[pace] / self.fps

    def parse(self, sentence: str) -> Asked:
        """What is asked, or an AttimeError that shows a sentence that would do."""
        words = sentence.lower().rstrip(" .").split()
        if sentence and len(words) == (LENGTH if self.paces else LENGTH - 1):
            asked = Asked(colour=words[1], shape=words[2], way=words[4], pace=words[5] if self.paces else "")
            known = asked.colour in self.colours and asked.shape in self.shapes and asked.way in WAYS
            if known and (words[0], words[3]) == ("the", "moves") and asked.pace in (self.paces or ("",)):
                return asked
        choices = " ".join("|".join(options) for options in (self.colours, self.shapes, ("moves",), WAYS, self.paces))
        raise AttimeError(f"this painter understands the sentences: the {choices.strip()}; got {sentence!r}.")

    def encode(self, sentences: Sequence[str], *, device: torch.device | str = "cpu") -> Tensor:
        """(batch, 6, width), a one for each word; an empty sentence is six times <pad>, which asks for nothing."""
        numbers = torch.zeros(len(sentences), LENGTH, dtype=torch.long)
        for row, sentence in enumerate(sentences):
            if sentence:
                self.parse(sentence)
                words = [VOCABULARY.index(word) for word in sentence.lower().rstrip(" .").split()]
                numbers[row, : len(words)] = torch.tensor(words)
        return torch.nn.functional.one_hot(numbers, self.width).float().to(device)

    def draw(
        self, sentences: Sequence[str], *, random: np.random.Generator, frames: int, size: int
    ) -> NDArray[np.uint8]:
        """Clips (batch, time, height, width, 3) of the world that fit the sentences, begun anywhere that leaves room."""
        shots = [self._shot(self.parse(sentence), random, frames) for sentence in sentences]
        return paint_many(shots, np.arange(frames) / self.fps, size=(size, size))

    def _shot(self, asked: Asked, random: np.random.Generator, frames: int) -> Shot:
        pace = asked.pace or str(random.choice(["", "fast"]))
        speed = SPEEDS[pace] if pace else 0.0
        gone = speed * (frames - 1) / self.fps * np.array(WAYS[asked.way])
        x, y = random.uniform(self.radius - np.minimum(gone, 0), 1 - self.radius - np.maximum(gone, 0)).tolist()
        thing = Thing(colour=asked.colour, shape=asked.shape, place=(x, y), radius=self.radius)
        stop = frames / self.fps
        move = Event(kind="move", who=0, start_s=0.0, stop_s=stop, way=asked.way, speed=speed)
        return Shot(start_s=0.0, stop_s=stop, things=(thing,), events=(move,) if pace else ())
