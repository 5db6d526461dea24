"""Laws of banks of frames: bounded for ever, flat in cost, the same however a stream is cut, in order, with nothing hidden."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attime.laws.contract import Law
from attime.memory.banks.contract import FrameBank, Kept

__all__ = ["LAWS"]

GRID, DIM, TIME, LONG = 4, 8, 33, 96
BANK = ("frames",)


def any_chunking_of_frames_agrees(bank: FrameBank) -> None:
    """All frames at once, in chunks of any length and one by one: the same is kept, bit for bit."""
    whole = _written(bank, [TIME])
    for cuts in ([1] * TIME, [20, 13], [1, 31, 1]):
        _same(_written(bank, cuts), whole, f"cut into {cuts}, something else is kept")


def it_reads_within_its_budget(bank: FrameBank) -> None:
    """After every frame there are at most `budget` tokens to read, and there is something to read."""
    budget, kept = bank.budget(GRID, GRID), bank.begin()
    for frames, when_s in _stream(LONG, [1] * LONG):
        kept = bank.write(kept, frames, when_s)
        count = len(bank.read(kept).tokens)
        assert 0 < count <= budget, f"{count} tokens of a budget of {budget} after {kept.seen} frames"


def what_it_holds_stops_growing(bank: FrameBank) -> None:
    """Bytes really held are no more in the second half of a long stream than in its first."""
    kept, held = bank.begin(), []
    for frames, when_s in _stream(LONG, [8] * (LONG // 8)):
        kept = bank.write(kept, frames, when_s)
        held.append(kept.nbytes)
    first, second = max(held[: len(held) // 2]), max(held[len(held) // 2 :])
    assert second <= first, f"{second} bytes are held after {LONG} frames where {first} had been enough"


def writing_stays_as_cheap(bank: FrameBank) -> None:
    """Numbers computed per frame do not grow with the frames seen."""
    kept, work = bank.begin(), []
    for frames, when_s in _stream(LONG, [LONG // 4] * 4):
        with _Counted() as counted:
            kept = bank.write(kept, frames, when_s)
        work.append(counted.numbers)
    early, late = work[1], work[3]
    assert late <= 1.2 * early, f"a frame costs {late / early:.2f} times what it cost earlier"


def tokens_stand_in_order_of_time(bank: FrameBank) -> None:
    """Times never fall, and none lies before the first frame or after the last."""
    stream, kept = _stream(TIME, [1] * TIME), bank.begin()
    first = stream[0][1][0]
    for frames, when_s in stream:
        kept = bank.write(kept, frames, when_s)
        times = bank.read(kept).when_s
        assert (times.diff() >= 0).all(), "tokens are out of order"
        assert times[0] >= first - 1e-9, "a token's time is before the first frame"
        assert times[-1] <= when_s[-1] + 1e-9, "a token's time is after the last frame"


def weights_are_the_frames_seen(bank: FrameBank) -> None:
    """The weights of the entries that are read add up to the number of frames seen."""
    kept = bank.begin()
    for frames, when_s in _stream(LONG, [1] * LONG):
        kept = bank.write(kept, frames, when_s)
        total = sum(entry.weight for entry in bank.entries(kept))
        assert abs(total - kept.seen) < 1e-6 * kept.seen, f"weights add up to {total} after {kept.seen} frames"


def the_past_ignores_later_frames(bank: FrameBank) -> None:
    """What was kept at some moment reads the same after more frames have been written."""
    now = _written(bank, [20], stop=20)
    before = _read(bank, now)
    copies = {name: each.clone() for name, each in now.tensors().items()}
    for frames, when_s in _stream(TIME, [20, 13])[1:]:
        bank.write(now, frames, when_s)
    after = _read(bank, now)
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True)), "it reads as something else"
    assert all(torch.equal(copies[name], each) for name, each in now.tensors().items()), "what is kept has changed"


def what_is_kept_is_its_own(bank: FrameBank) -> None:
    """Writing over the frames that were given changes nothing."""
    (frames, when_s), *_ = _stream(TIME, [TIME])
    kept = bank.write(bank.begin(), frames, when_s)
    before = _read(bank, kept)
    frames.zero_()
    assert all(torch.equal(one, two) for one, two in zip(before, _read(bank, kept), strict=True))


def reading_changes_nothing(bank: FrameBank) -> None:
    """Read at every frame, or never until the end: the same is kept and read."""
    never, often = copy.deepcopy(bank), copy.deepcopy(bank)
    kept = often.begin()
    for frames, when_s in _stream(TIME, [1] * TIME):
        kept = often.write(kept, frames, when_s)
        _read(often, kept)
    once = _written(never, [1] * TIME)
    _same(kept, once, "reading has changed what is kept")
    assert all(torch.equal(one, two) for one, two in zip(_read(often, kept), _read(never, once), strict=True))


def nothing_is_hidden(bank: FrameBank) -> None:
    """Saved as tensors and given to a bank that has seen nothing, a stream goes on as if never interrupted."""
    fresh = copy.deepcopy(bank)
    (_, _), (frames, when_s) = _stream(TIME, [20, 13])
    kept = _written(bank, [20], stop=20)
    loaded = Kept.restore({name: each.clone() for name, each in kept.tensors().items()})
    one, two = bank.write(kept, frames, when_s), fresh.write(loaded, frames, when_s)
    _same(two, one, "after loading, something else is kept")
    assert all(torch.equal(x, y) for x, y in zip(_read(fresh, two), _read(bank, one), strict=True))


def the_dtype_of_frames_is_kept(bank: FrameBank) -> None:
    """Tokens have the dtype of the frames and are finite."""
    for dtype in (torch.float32, torch.bfloat16):
        kept = bank.begin()
        for frames, when_s in _stream(TIME, [TIME]):
            kept = bank.write(kept, frames.to(dtype), when_s)
        tokens = bank.read(kept).tokens
        assert tokens.dtype == dtype, f"{tokens.dtype} comes back for {dtype}"
        assert tokens.isfinite().all()


LAWS = (
    Law(any_chunking_of_frames_agrees, needs=BANK),
    Law(it_reads_within_its_budget, needs=BANK),
    Law(what_it_holds_stops_growing, needs=BANK),
    Law(writing_stays_as_cheap, needs=BANK),
    Law(tokens_stand_in_order_of_time, needs=BANK),
    Law(weights_are_the_frames_seen, needs=("frames", "merges")),
    Law(the_past_ignores_later_frames, needs=BANK),
    Law(what_is_kept_is_its_own, needs=BANK),
    Law(reading_changes_nothing, needs=BANK),
    Law(nothing_is_hidden, needs=BANK),
    Law(the_dtype_of_frames_is_kept, needs=BANK),
)


class _Counted(TorchFunctionMode):
    """Counts the numbers that calls of PyTorch give back."""

    numbers = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, tuple | list) else [out]
        self.numbers += sum(each.numel() for each in made if isinstance(each, Tensor))
        return out


def _stream(time: int, cuts: Sequence[int]) -> list[tuple[Tensor, list[float]]]:
    """Frames that resemble each other in scenes of random lengths, at uneven times, in chunks."""
    random = torch.Generator().manual_seed(0)
    scene = (torch.rand(time, generator=random) < 0.15).cumsum(0)
    looks = torch.randn(int(scene[-1]) + 1, GRID, GRID, DIM, generator=random)
    frames = looks[scene] + 0.2 * torch.randn(time, GRID, GRID, DIM, generator=random)
    when_s = 5 + torch.rand(time, generator=random, dtype=torch.float64).cumsum(0)
    return list(zip(frames.split(list(cuts)), [each.tolist() for each in when_s.split(list(cuts))], strict=True))


def _written(bank: FrameBank, cuts: Sequence[int], *, stop: int = TIME) -> Kept:
    kept = bank.begin()
    rest = [TIME - stop] if stop < TIME else []
    for frames, when_s in _stream(TIME, [*cuts, *rest])[: len(cuts)]:
        kept = bank.write(kept, frames, when_s)
    return kept


def _read(bank: FrameBank, kept: Kept) -> list[Tensor]:
    return [each.detach().clone() for each in bank.read(kept)]


def _same(one: Kept, two: Kept, said: str) -> None:
    ours, theirs = one.tensors(), two.tensors()
    assert ours.keys() == theirs.keys(), said
    assert all(torch.equal(each, theirs[name]) for name, each in ours.items()), said
