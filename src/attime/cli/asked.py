"""The memory that --memory, --disk and --quantize of `attime stream` say together."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from attime.cli.reading import in_words
from attime.errors import AttimeError
from attime.memory.chained import Chain, chain
from attime.memory.contract import Policy
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize
from attime.memory.retrieve import OnDisk, Retrieve

__all__ = ["asked_memory", "disk_folder"]

SHARE = 8  # of what is kept, one part in so many is recent, and one comes between two ticks


def asked_memory(memory: Chain, *, folder: str | None = None, bits: int | None = None) -> Chain:
    """The same with what leaves its window parked in this folder, and what is not recent in so many bits."""
    policies = list(memory.policies)
    if folder is not None:
        policies = _parking(memory, folder)
    if bits is not None:
        place = next((at for at, each in enumerate(policies) if each.follows), len(policies))
        policies.insert(place, _coding(policies, bits))
    return chain(*policies)


def _parking(memory: Chain, folder: str) -> list[Policy]:
    """As much in sight as the window had, half of it brought back: no model is shown more than it was to be."""
    windows = [each for each in memory.policies if isinstance(each, SinkWindow)]
    if len(windows) != 1 or not all(isinstance(each, SinkWindow | Contiguous) for each in memory.policies):
        raise AttimeError(
            f"--disk parks what leaves a window, so it needs a memory such as sinks=4,window=1020; got {in_words(memory)}."
        )
    whole = windows[0]
    half = whole.window // 2
    block = min(Retrieve.block, half // 4)
    if block < 1:
        raise AttimeError(f"--disk brings blocks back into a window of 8 or more; got window={whole.window}.")
    blocks = half // block
    window = whole.window - blocks * block
    every = min(whole.every, window // 4)
    where, contiguous = OnDisk(path=folder), len(memory.policies) > 1
    made = Retrieve(sinks=whole.sinks, window=window, every=every, block=block, blocks=blocks, where=where)
    return [replace(made, contiguous=contiguous)]


def _coding(policies: Sequence[Policy], bits: int) -> Quantize:
    """Bits for what is not recent, in steps so small that most of what is kept gets them."""
    sinks = [own for each in policies if (own := getattr(each, "sinks", None)) is not None]
    bounds = [int(each.budget) for each in policies if each.evidence().bounded or isinstance(each, Retrieve)]  # type: ignore[attr-defined]
    kept = min(bounds, default=SHARE * Quantize.every)
    recent, every = min(Quantize.recent, kept // SHARE), min(Quantize.every, max(1, kept // SHARE))
    return Quantize(bits=bits, sinks=max(sinks, default=Quantize.sinks), recent=recent, every=every)


@contextmanager
def disk_folder(name: str) -> Iterator[str]:
    """A folder of this stream's own in the one that was named, gone at the end."""
    if not name.strip():
        raise AttimeError(f"--disk needs the name of a folder; got {name!r}: give one, or leave it out.")
    try:
        parent = Path(name).expanduser()
        parent.mkdir(parents=True, exist_ok=True)
        made = tempfile.TemporaryDirectory(prefix="attime-", dir=parent)
    except OSError as error:
        raise AttimeError(f"--disk needs a folder that can be written to; {name}: {error.strerror}.") from None
    with made:
        yield made.name
