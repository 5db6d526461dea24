r"""A uniform random sample of all frames so far: every frame is in it with the same probability.

    the frames with the smallest of u_n, where u_n = hash(seed, n) is uniform

Source:  Vitter 1985, https://doi.org/10.1145/3147.3165 (reservoir sampling); here by random keys, as in Efraimidis and
         Spirakis 2006, https://doi.org/10.1016/j.ipl.2005.11.003.
Cost:    a comparison per frame held.
Differs: the keys are a hash of the frame's number, so that a branched or loaded stream goes on alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from attime.errors import AttimeError
from attime.memory.banks.coarser import area, coarser
from attime.memory.banks.contract import Entry, FrameBank, Parts

__all__ = ["Reservoir"]

MASK = 2**64 - 1


@final
@dataclass(frozen=True, kw_only=True)
class Reservoir(FrameBank):
    """`frames` frames by lot, on a grid of at most `cells` along each side (see the module docstring)."""

    frames: int = 16
    cells: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.cells is not None and self.cells < 1):
            raise AttimeError(
                f"Reservoir needs frames >= 1 and cells >= 1 or None; got frames={self.frames}, cells={self.cells}."
            )

    def take(self, parts: Parts, new: Entry) -> Parts:
        held = parts.get("drawn", ())
        if len(held) == self.frames:
            worst = max(held, key=lambda entry: self._lot(entry.number))
            if self._lot(worst.number) <= self._lot(new.number):
                return parts
            held = tuple(entry for entry in held if entry is not worst)
        return {"drawn": (*held, replace(new, frame=coarser(new.frame, self.cells)))}

    def budget(self, height: int, width: int) -> int:
        return self.frames * area(height, width, self.cells)

    def _lot(self, number: int) -> int:
        """splitmix64 of the frame's number."""
        mixed = (number + 1) * 0x9E3779B97F4A7C15 + self.seed * 0xD1B54A32D192ED03 & MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & MASK
        return mixed ^ mixed >> 31

    @classmethod
    def examples(cls) -> Sequence["Reservoir"]:
        return [cls(frames=3), cls(frames=4, cells=2, seed=5)]
