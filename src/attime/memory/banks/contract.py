"""What a bank is: a memory over frames, written frame by frame, bounded for ever, and read as tokens in order of time.

bank = FramePyramid()
kept = bank.write(bank.begin(), features, when_s)      # features (time height width dim), of one frame or of many
tokens, when_s, weight = bank.read(kept)               # for a language model, or for any other reader

The bank holds nothing; all that it knows is in `kept`, a value: keep it, branch from it, save it.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.contract import Traits
from attime.part import Part

__all__ = ["Entry", "FrameBank", "Kept", "Parts", "Tokens"]

Frame = Float[Tensor, "height width dim"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One frame, or what has become of some. Its tensors are never written to."""

    frame: Frame
    when_s: float
    number: int
    """Of the frame, from 0."""
    weight: float = 1.0
    """How many frames it stands for; 0 where it shows again what others stand for."""
    key: Float[Tensor, " features"] | None = None
    """What it is compared by, where that is kept."""


Parts = Mapping[str, tuple[Entry, ...]]
"""Entries by the names that a bank gives them."""


class Tokens(NamedTuple):
    """What a bank gives to read, in order of time."""

    tokens: Float[Tensor, "tokens dim"]
    when_s: Float[Tensor, " tokens"]
    weight: Float[Tensor, " tokens"]
    """How many frames a token's entry stands for; its log is a log-mass of attention."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All that a bank knows of one stream."""

    seen: int = 0
    last_s: float = -torch.inf
    dtype: torch.dtype = torch.float32
    """Of the frames that came."""
    parts: Parts = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes really held, also those of a larger tensor that an entry is a view of."""
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self.tensors().values()}
        return sum(held.values())

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name."""
        clock = torch.tensor([self.seen, self.last_s], dtype=torch.float64)
        made = {"clock": clock, "dtype": torch.empty(0, dtype=self.dtype)}
        for name, entries in self.parts.items():
            rows = [(entry.when_s, entry.number, entry.weight) for entry in entries]
            made[f"{name}:about"] = torch.tensor(rows, dtype=torch.float64).view(len(rows), 3)
            made |= {f"{name}:frame:{place}": entry.frame for place, entry in enumerate(entries)}
            made |= {f"{name}:key:{place}": e.key for place, e in enumerate(entries) if e.key is not None}
        return made

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> "Kept":
        """What `tensors` gave."""
        parts = {}
        for about in [each for each in tensors if each.endswith(":about")]:
            name = about.removesuffix(":about")
            parts[name] = tuple(
                Entry(
                    frame=tensors[f"{name}:frame:{place}"],
                    when_s=when_s,
                    number=int(number),
                    weight=weight,
                    key=tensors.get(f"{name}:key:{place}"),
                )
                for place, (when_s, number, weight) in enumerate(tensors[about].tolist())
            )
        seen, last_s = tensors["clock"].tolist()
        return cls(seen=int(seen), last_s=last_s, dtype=tensors["dtype"].dtype, parts=parts)

    def save(self, path: str | Path) -> None:
        """Write it to a file of safetensors."""
        save_file({name: each.detach().clone().contiguous() for name, each in self.tensors().items()}, path)

    @classmethod
    def load(cls, path: str | Path) -> "Kept":
        """What `save` wrote; AttimeError for any other file."""
        try:
            return cls.restore(load_file(path))
        except (SafetensorError, KeyError, OSError) as error:
            raise AttimeError(f"{path} holds no memory of a bank that this version can read: {error}.") from None


class FrameBank(Part):
    """A bounded memory of one stream of frames. Leaves fill in `take`, `budget` and, if they show less than all, `shown`."""

    traits: ClassVar[Traits] = Traits(acts=False, frames=True)

    def evidence(self) -> Traits:
        """What this object claims; its class's traits unless its parts decide."""
        return self.traits

    def begin(self) -> Kept:
        """Before the first frame."""
        return Kept()

    def write(self, kept: Kept, frames: Float[Tensor, "time height width dim"], when_s: Sequence[float | int]) -> Kept:
        """What is kept after these frames too, taken one by one; `kept` itself stays as it is."""
        name = type(self).__name__
        if frames.ndim != 4 or len(frames) != len(when_s):
            raise AttimeError(
                f"{name}.write needs frames (time height width dim) and one when_s for each; got sizes "
                f"{'x'.join(map(str, frames.shape))} and {len(when_s)} times."
            )
        held = next((entry.frame for entries in kept.parts.values() for entry in entries), frames)
        if held.shape[-1] != frames.shape[-1]:
            raise AttimeError(f"{name} holds frames of dim={held.shape[-1]}; got dim={frames.shape[-1]}.")
        for frame, at in zip(frames, map(float, when_s), strict=True):
            if not kept.last_s <= at < torch.inf:
                raise AttimeError(f"{name}.write needs times in order; got {at} s after {kept.last_s} s.")
            new = Entry(frame=frame.clone(), when_s=at, number=kept.seen)  # not a view: it would hold all the frames
            parts = self.take(kept.parts, new)
            kept = replace(kept, seen=kept.seen + 1, last_s=at, dtype=frame.dtype, parts=parts)
        return kept

    def read(self, kept: Kept) -> Tokens:
        """Everything that it gives to read."""
        entries = self.entries(kept)
        if not entries:
            raise AttimeError(f"{type(self).__name__} has seen no frame yet: write before you read.")
        counts = torch.tensor([entry.frame.shape[0] * entry.frame.shape[1] for entry in entries])
        tokens = torch.cat([entry.frame.flatten(0, 1).to(kept.dtype) for entry in entries])
        known = torch.tensor([(entry.when_s, entry.weight) for entry in entries], dtype=torch.float64)
        when_s, weight = known.repeat_interleave(counts, dim=0).to(tokens.device).unbind(1)
        return Tokens(tokens, when_s, weight)

    def entries(self, kept: Kept) -> list[Entry]:
        """What is read, in order of time."""
        return sorted(self.shown(kept), key=lambda entry: (entry.when_s, entry.number))

    @abstractmethod
    def take(self, parts: Parts, new: Entry) -> Parts:
        """The parts after one more frame; nothing in them is changed in place."""

    @abstractmethod
    def budget(self, height: int, width: int) -> int:
        """The most tokens that it ever gives to read, for frames of this grid."""

    def shown(self, kept: Kept) -> Iterable[Entry]:
        """The entries that are read, in any order; those of all parts unless a leaf knows better."""
        return [entry for entries in kept.parts.values() for entry in entries]
