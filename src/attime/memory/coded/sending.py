r"""A coded past sent in time: each chunk at the best level, or as text, with which the rest arrives before the deadline.

    text, if recomputing all that is left fits into the time left;
    else the best level with  (bytes of all that is left at this level) / throughput <= time left;   else the smallest

Source:  CacheGen, arXiv 2310.07240, sec. 6 and alg. 1 (streaming adaptation).
Names:   `seconds` of a chunk are those that the model needs to read its text; throughput is that of the chunk before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from attime.errors import AttimeError

__all__ = ["Chunk", "Sent", "Trace", "choose", "send"]

TEXT = -1


@final
@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One stretch of a context in each of its forms."""

    sizes: tuple[int, ...]
    """Bytes at each level, the best first."""
    text: int
    """Bytes of its text, from which the model can make the past again ..."""
    seconds: float
    """... in so much time."""


@final
@dataclass(frozen=True, kw_only=True)
class Trace:
    """A line whose throughput changes: so many bytes per second in each `step_s`, over and over."""

    rates: tuple[float, ...]
    step_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0 or self.step_s <= 0:
            raise AttimeError(f"Trace needs positive rates and step_s > 0; got {self.rates}, step_s={self.step_s}.")

    def seconds(self, nbytes: float, start_s: float) -> float:
        """How long it takes to send so many bytes from this time on."""
        number, now = int(start_s / self.step_s), start_s
        while True:
            rate, end = self.rates[number % len(self.rates)], (number + 1) * self.step_s
            if nbytes <= rate * (end - now):
                return now + nbytes / rate - start_s
            nbytes, now, number = nbytes - rate * (end - now), end, number + 1


@final
@dataclass(frozen=True)
class Sent:
    """How a context arrived."""

    seconds: float
    levels: tuple[int, ...]
    """The level of each chunk; -1 for text."""


def choose(left: Sequence[Chunk], *, remaining_s: float, rate: float) -> int:
    """The level of the next chunk, when these are left to be sent at this throughput; -1 for text."""
    if sum(each.seconds + each.text / rate for each in left) <= remaining_s:
        return TEXT
    levels = range(len(left[0].sizes))
    fits = (level for level in levels if sum(each.sizes[level] for each in left) / rate <= remaining_s)
    return next(fits, levels[-1])


def send(chunks: Sequence[Chunk], line: Trace, *, deadline_s: float, first: int = 1, level: int | None = None) -> Sent:
    """Send all chunks one after the other; the first at level `first`, as nothing is measured yet.

    A `level` is kept for all of them: what a sender does that does not adapt.
    """
    if not chunks or len({len(each.sizes) for each in chunks}) != 1:
        raise AttimeError("send needs chunks that all come at the same number of levels.")
    now, rate, levels = 0.0, None, []
    for number, chunk in enumerate(chunks):
        chosen = level
        if chosen is None:
            last = len(chunk.sizes) - 1
            chosen = (
                min(first, last) if rate is None else choose(chunks[number:], remaining_s=deadline_s - now, rate=rate)
            )
        nbytes = chunk.text if chosen == TEXT else chunk.sizes[chosen]
        took = line.seconds(float(nbytes), now)
        now, rate = now + took + (chunk.seconds if chosen == TEXT else 0.0), nbytes / took
        levels.append(chosen)
    return Sent(now, tuple(levels))
