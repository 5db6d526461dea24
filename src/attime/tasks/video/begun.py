"""Sentences about a clip that break off before a shape: who says what things usually are, and not what they are, shows it here.

Each sentence answers `what happens next ?` and has come to a colour: `the red ...`. Of things of that colour a text may say
over and over that they are circles, whatever there is to see; a model that has read it and does not look says `circle`.

Source:  CHAIR, arXiv 1809.02156, sec. 2 (things in a description that are not in the picture); a habit of words in place of
         the co-occurrences of a data set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray

from attime.streams.world.paint import paint_many
from attime.streams.world.scene import COLOURS, SHAPES, Shot
from attime.streams.world.tell import VERBS
from attime.streams.world.world import World

__all__ = ["Begun", "begun", "habits", "sentence"]


@dataclass(frozen=True, kw_only=True)
class Begun:
    """Sentences, one clip for each, and how they should and how they would end."""

    frames: NDArray[np.uint8]
    """(sentences, time, height, width, 3)"""
    texts: Sequence[str]
    due: Int[NDArray[np.int64], " sentences"]
    """The shape that is there, as its place in SHAPES."""
    usual: Int[NDArray[np.int64], " sentences"]
    """The shape that the habit has for the colour."""

    def rates(self, said: ArrayLike) -> dict[str, float]:
        """Share of right shapes, and of the usual shape among sentences of which it is not true (hallucination)."""
        shapes = np.asarray(said)
        untrue = self.usual != self.due
        return {
            "right": float((shapes == self.due).mean()),
            "hallucination": float((shapes == self.usual)[untrue].mean()),
        }


def habits(seed: int) -> dict[str, str]:
    """The usual shape of things of each colour, drawn at random."""
    random = np.random.default_rng([seed, len(SHAPES)])
    return {colour: str(random.choice(SHAPES)) for colour in COLOURS}


def sentence(name: str, verb: str, colour: str) -> str:
    """The question and its answer as far as it has come."""
    return f"what happens next after the {name} {verb} ? the {colour}"


def begun(
    world: World,
    usual: Mapping[str, str],
    *,
    shots: int,
    frames: int = 16,
    size: tuple[int, int] = (32, 32),
    seed: int = 0,
) -> Begun:
    """A sentence about each thing in so many shots of a world that its training does not reach."""
    chosen = list[Shot]()
    number = seed * 100_003 + 30_000_000
    while len(chosen) < shots:
        shot = world.shot(number)
        chosen += [shot] if shot.happenings else []
        number += 1
    clips = paint_many(chosen, np.arange(frames) * world.shot_s / frames, size=size, noise=world.noise, seed=seed)
    rows, texts, due, likely = list[int](), list[str](), list[int](), list[int]()
    for row, shot in enumerate(chosen):
        first = shot.happenings[0]
        for thing in shot.things:
            rows.append(row)
            texts.append(sentence(shot.name(first.who), VERBS[first.kind], thing.colour))
            due.append(SHAPES.index(thing.shape))
            likely.append(SHAPES.index(usual[thing.colour]))
    return Begun(frames=clips[rows], texts=texts, due=np.array(due), usual=np.array(likely))
