"""Watching live: frames come one by one, questions come in between, and what comes later cannot be reached.

A witness gets `push(frame, when_s)` for every frame and `ask(question, options, when_s)` for every question, in order of
time. `Live` turns witnesses into an observer of a quiz. `foresight` finds out any observer that looks ahead in clips it
was given whole: it changes what comes after the question and sees whether the answer changes with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from attime.errors import AttimeError
from attime.tasks.quiz import Item, Observer

__all__ = ["FrameMemory", "Live", "Witness", "foresight", "past_only"]

Frames = NDArray[np.uint8]


class Witness(Protocol):
    """What sees a stream as it happens."""

    def push(self, frame: Frames, when_s: float) -> None:
        """The next frame (height, width, 3) and its second."""
        ...

    def ask(self, question: str, options: Sequence[str], when_s: float) -> str:
        """One of the options, from what was pushed until now. Another question may follow, and more frames."""
        ...


class Live:
    """The observer made of witnesses: each sees one stream once, as far as the last question asked of it.

    A new witness is made when an item is about another stream, or about a moment that has passed.
    """

    def __init__(self, make: Callable[[], Witness]) -> None:
        self.make = make
        self._seen: Frames | None = None

    def __call__(self, item: Item) -> str:
        asked = _asked(item)
        frames = _frames_until(item)
        seen = self._seen
        if seen is None or len(seen) > len(frames) or not np.array_equal(seen, frames[: len(seen)]):
            self._witness, seen = self.make(), frames[:0]
        for place in range(len(seen), len(frames)):
            self._witness.push(frames[place].copy(), place * item.clip.seconds_per_frame)
        self._seen = frames
        return self._witness.ask(item.question, item.options, asked)


class FrameMemory:
    """A witness that keeps at most `budget` frames and answers from them.

    `latest` keeps the last frames. `even` keeps frames at equal distances from the whole past: whenever it is full,
    every second frame goes, and from then on half as many come in. `answer` gets (budget, height, width, 3); while there
    are fewer, the earliest is repeated in front.
    """

    def __init__(
        self,
        answer: Callable[[Frames, str, Sequence[str]], str],
        *,
        budget: int = 16,
        keep: Literal["latest", "even"] = "latest",
    ) -> None:
        if budget < 2 or keep not in ("latest", "even"):
            raise AttimeError(
                f"FrameMemory needs budget >= 2 and keep latest or even; got budget={budget}, keep={keep!r}."
            )
        self.answer, self.budget, self.keep = answer, budget, keep
        self._frames: list[Frames] = []
        self._stride, self._pushed = 1, 0

    def push(self, frame: Frames, when_s: float) -> None:
        if self.keep == "latest":
            self._frames = [*self._frames, frame][-self.budget :]
        else:
            if self._pushed % self._stride == 0:
                if len(self._frames) == self.budget:
                    self._frames, self._stride = self._frames[::2], 2 * self._stride
                if self._pushed % self._stride == 0:
                    self._frames.append(frame)
            self._pushed += 1

    def ask(self, question: str, options: Sequence[str], when_s: float) -> str:
        if not self._frames:
            raise AttimeError("a FrameMemory is asked after its first frame; push a frame before you ask.")
        missing = [self._frames[0]] * (self.budget - len(self._frames))
        return self.answer(np.stack([*missing, *self._frames]), question, options)


def past_only(item: Item) -> Item:
    """The item with a clip that ends when it is asked."""
    return replace(item, clip=replace(item.clip, source=lambda: _frames_until(item).copy()))


def foresight(observer: Observer, items: Sequence[Item], *, seed: int = 0) -> float:
    """The share of answers that change with the future: 0 for whoever looks at nothing later than the question.

    The observer gets whole clips, twice: as they are, and with frames of another item's clip from the question on. It
    must give the same answer to the same item twice.
    """
    open_ended = [item for item in items if len(item.clip.frames) > len(_frames_until(item))]
    if not open_ended:
        raise AttimeError("foresight needs items that are asked before their clips end; got none.")
    random, clips = np.random.default_rng(seed), list(dict.fromkeys(item.clip for item in items))
    changed = 0
    for item in open_ended:
        past, whole = _frames_until(item), item.clip.frames
        others = [clip for clip in clips if clip is not item.clip]
        other = others[int(random.integers(len(others)))].frames if others else 255 - whole
        later = np.resize(other[::-1], (len(whole) - len(past), *whole.shape[1:]))
        clip = replace(item.clip, source=lambda past=past, later=later: np.concatenate([past, later]))
        changed += observer(item) != observer(replace(item, clip=clip))
    return changed / len(open_ended)


def _asked(item: Item) -> float:
    if item.asked_s is None or item.asked_s < 0:
        raise AttimeError(
            f"a question about a stream needs asked_s, 0 or later; got {item.asked_s}: set it on the item."
        )
    return item.asked_s


def _frames_until(item: Item) -> Frames:
    """The frames at asked_s or before, the first one at 0."""
    return item.clip.frames[: int(np.floor(_asked(item) / item.clip.seconds_per_frame + 1e-6)) + 1]
