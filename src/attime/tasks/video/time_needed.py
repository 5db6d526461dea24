"""Three measures of whether questions need time: what is lost with one frame, with shuffled frames, and by picking one.

    gain      = acc(all frames) / acc(one frame) - 1           multi-frame gain, kappa
    order     = acc(all frames) / acc(shuffled frames) - 1     frame order sensitivity, tau
    disparity = acc(picked frame) / acc(one frame) - 1         frame information disparity, rho

One frame is the middle one; the picked frame is the one that tells most (`Item.telling`). Questions that need time have
a high gain and order, and a low disparity: with a high one, a single well-chosen frame is enough.

Source:  TOMATO, arXiv 2410.23266, section 3; the form of rho is that of the numbers in its table 6.
Differs: the one frame is always the middle one, and the picked one is known from the world's truth and not chosen by a person.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from attime.errors import AttimeError
from attime.tasks.quiz import Item, Observer, Quiz, one_frame, shuffled

__all__ = ["TimeNeeded", "time_needed"]


@dataclass(frozen=True, kw_only=True)
class TimeNeeded:
    """One score of an observer under four views of the same clips."""

    whole: float
    one: float
    picked: float
    shuffled: float

    @property
    def gain(self) -> float:
        """Multi-frame gain; infinite if one frame gives nothing and all frames something."""
        return _more(self.whole, self.one)

    @property
    def order(self) -> float:
        """Frame order sensitivity."""
        return _more(self.whole, self.shuffled)

    @property
    def disparity(self) -> float:
        """Frame information disparity."""
        return _more(self.picked, self.one)


def time_needed(
    quiz: Quiz, observer: Observer, *, items: Sequence[Item] | None = None, shuffles: int = 1, seed: int = 0
) -> dict[str, TimeNeeded]:
    """The measures for every score of the quiz, on its own items of this seed or on `items` (of a benchmark's files).

    The score with shuffled frames is the mean over so many `shuffles`.
    """
    if shuffles < 1:
        raise AttimeError(f"time_needed needs at least one shuffle; got {shuffles}.")
    items = quiz.items(seed=seed) if items is None else items
    views = (observer, one_frame(observer), one_frame(observer, place=None))
    whole, one, picked = (quiz.grade(items, each) for each in views)
    mixed = [quiz.grade(items, shuffled(observer, seed=seed + number)) for number in range(shuffles)]
    return {
        name: TimeNeeded(
            whole=whole[name],
            one=one[name],
            picked=picked[name],
            shuffled=sum(each[name] for each in mixed) / shuffles,
        )
        for name in whole
    }


def _more(seeing: float, blind: float) -> float:
    if blind > 0:
        return seeing / blind - 1
    return float("inf") if seeing > 0 else 0.0
