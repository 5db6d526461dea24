"""Laws of the memory room: within budget, in order, the same however time is cut, and what is dropped is really freed."""

import copy
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attime.errors import AttimeError
from attime.laws import banks
from attime.laws.contract import Law
from attime.memory.chained import Chain, chain
from attime.memory.contract import Policy
from attime.memory.past import Past
from attime.memory.reader import read
from attime.memory.rotary import Rotary
from attime.memory.saved import load_pasts, save_pasts

__all__ = ["LAWS", "walk"]

ROWS, HEADS, GROUPS, TIME, DIM = 2, 2, 2, 61, 8
ACTS = ("acts",)


def any_chunking_agrees(policy: Policy) -> None:
    """All at once, in chunks of any length and token by token: the same outputs and the same entries."""
    whole, past = _run(policy, [TIME])
    for cuts in ([1] * TIME, [37, 24], [7] * 8 + [5], [2, 58, 1]):
        parts, other = _run(policy, cuts)
        assert (parts - whole).abs().max() < 1e-9, f"cut into {cuts}, outputs differ by {(parts - whole).abs().max()}"
        for bank, same in zip(past.banks, other.banks, strict=True):
            assert torch.equal(bank.when.now, same.when.now), f"cut into {cuts}, other tokens are kept"


def the_past_ignores_the_future(policy: Policy) -> None:
    """Changing a token leaves every earlier output as it was."""
    q, k, v = _stream()
    first = torch.cat(list(_outputs(policy, _past(), q, k, v, [TIME])), dim=2)
    for each in (q, k, v):
        each[:, :, 38:] += 1
    second = torch.cat(list(_outputs(policy, _past(), q, k, v, [TIME])), dim=2)
    torch.testing.assert_close(second[:, :, :38], first[:, :, :38], rtol=0, atol=0)


def it_stays_within_its_budget(policy: Policy) -> None:
    """After every token no lane holds more than `budget` entries."""
    budget = int(policy.budget)  # type: ignore[attr-defined]
    past = _past()
    for _ in _outputs(policy, past, *_stream(), [1] * TIME):
        assert int(past.kept().max()) <= budget, f"{int(past.kept().max())} entries of a budget of {budget}"


def a_short_past_is_untouched(policy: Policy) -> None:
    """As long as everything fits, it is attention over everything."""
    time = max(1, int(policy.budget) - max(1, policy.every))  # type: ignore[attr-defined]
    q, k, v = (each[:, :, :time] for each in _stream())
    [ours] = _outputs(policy, _past(), q, k, v, [q.shape[2]])
    [plain] = _outputs(chain(), _past(), q, k, v, [q.shape[2]])
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-9)


def entries_stay_in_order(policy: Policy) -> None:
    """The numbers of the tokens that are kept rise in every lane, and none is from the future."""
    _, past = _run(policy, [TIME])
    for bank in past.banks:
        when = bank.when.now
        assert (when.diff(dim=1) > 0).all(), "entries are out of order, or twice there"
        assert not len(when) or (when.min() >= 0 and when.max() < past.seen)


@torch.no_grad()
def acting_twice_is_acting_once(policy: Policy) -> None:
    """Where nothing has come since, there is nothing left to do."""
    ticks = TIME - TIME % max(1, policy.every)
    _, past = _run(policy, [ticks])
    once = copy.deepcopy(past)
    _as_chain(policy).act(past)
    for bank, before in zip(past.banks, once.banks, strict=True):
        assert bank.known.keys() == before.known.keys()
        assert all(torch.equal(each.now, before.known[name].now) for name, each in bank.known.items())
        assert torch.equal(bank.keys(), before.keys()), "keys have changed again"
        assert torch.equal(bank.values(), before.values()), "values have changed again"


def what_is_dropped_is_freed(policy: Policy) -> None:
    """Bytes held are those of the entries kept, spare room for the next tick aside."""
    _, past = _run(policy, [TIME])
    _, whole = _run(chain(), [TIME])
    share = float(past.kept().double().mean() + policy.every) / TIME
    extra = _knowledge(past)
    held, most = past.nbytes - extra, share * whole.nbytes
    assert held <= 1.02 * most, f"{held} bytes are held where {most:.0f} are kept"


def what_is_told_is_what_is_held(policy: Policy) -> None:
    """The bytes of a past are those of the memory that its tensors take up, within two per cent."""
    for cuts in ([TIME], [1] * TIME):
        _, past = _run(policy, cuts)
        held = dict[int, int]()
        walk([past.banks, past.queries], set(), held)
        told, real = past.nbytes, sum(held.values())
        assert abs(told - real) <= 0.02 * real, f"{told} bytes are told where {real} are held"


def walk(thing: Any, seen: set[int], held: dict[int, int]) -> None:
    """The memory of every tensor that can be reached from here, each once."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        held[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    parts: Any = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, list | tuple) else ()
    own = getattr(thing, "__dict__", {}).values() if type(thing).__module__.startswith("attime.") else ()
    for part in (*parts, *own):
        walk(part, seen, held)


def rows_do_not_see_each_other(policy: Policy) -> None:
    """Each row of a batch gets what it gets alone, also after rows have changed places."""
    q, k, v = _stream()
    past = _past()
    together = torch.cat(list(_outputs(policy, past, q, k, v, [TIME])), dim=2)
    for row in range(ROWS):
        part = slice(row, row + 1)
        alone = torch.cat(list(_outputs(policy, _past(), q[part], k[part], v[part], [TIME])), dim=2)
        torch.testing.assert_close(together[part], alone, rtol=0, atol=1e-9)
    swapped = past.rows(torch.tensor([1, 0, 1]))
    order = [1, 0, 1]
    after = torch.cat(list(_outputs(policy, past, q, k, v, [11], stop=11)), dim=2)
    moved = torch.cat(list(_outputs(policy, swapped, q[order], k[order], v[order], [11], stop=11)), dim=2)
    torch.testing.assert_close(moved, after[order], rtol=0, atol=1e-9)


def a_saved_past_goes_on(policy: Policy) -> None:
    """What is read back from a file gives the numbers that it would have given, and holds the same entries."""
    stop, past, name = 46, _past(), repr(policy)
    q, k, v = (each[:, :, stop:] for each in _stream())
    for _ in _outputs(policy, past, *_stream(), [stop], stop=stop):
        pass
    with tempfile.TemporaryDirectory() as folder:
        save_pasts(Path(folder) / "past", [past], model="", policy=name, extra={})
        [loaded], _ = load_pasts(Path(folder) / "past", model="", policy=name)
    loaded.rotate = past.rotate
    ours, theirs = (next(_outputs(policy, each, q, k, v, [TIME - stop])) for each in (loaded, past))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    assert all(torch.equal(one.when.now, two.when.now) for one, two in zip(loaded.banks, past.banks, strict=True))


def missing_evidence_is_an_error(policy: Policy) -> None:
    """A policy that needs maps, queries or rotary positions says so where there are none, in one sentence."""
    past = Past(heads=HEADS)
    _, k, v = _stream()
    past.append(k.flatten(0, 1), v.flatten(0, 1))
    past.seen = TIME - TIME % max(1, policy.every)
    said = ""
    try:
        policy.act(past)
    except AttimeError as error:
        said = str(error)
    assert said, "it acts without the evidence that it says it needs"
    assert "\n" not in said, "the error is more than a sentence"


LAWS = (
    Law(any_chunking_agrees, needs=ACTS),
    Law(the_past_ignores_the_future, needs=ACTS),
    Law(it_stays_within_its_budget, needs=("acts", "bounded")),
    Law(a_short_past_is_untouched, needs=("acts", "bounded")),
    Law(entries_stay_in_order, needs=ACTS),
    Law(acting_twice_is_acting_once, needs=ACTS),
    Law(what_is_dropped_is_freed, needs=("acts", "drops")),
    Law(what_is_told_is_what_is_held, needs=ACTS),
    Law(rows_do_not_see_each_other, needs=ACTS),
    Law(a_saved_past_goes_on, needs=ACTS),
    Law(missing_evidence_is_an_error, needs=ACTS, one_of=("maps", "queries", "rotary")),
    *banks.LAWS,
)


def _stream() -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    sizes = ((ROWS, HEADS * GROUPS, TIME, DIM), (ROWS, HEADS, TIME, DIM), (ROWS, HEADS, TIME, DIM))
    q, k, v = (torch.randn(size, generator=random, dtype=torch.float64) for size in sizes)
    return q, k, v


def _as_chain(policy: Policy) -> Chain:
    return policy if isinstance(policy, Chain) else chain(policy)


def _past() -> Past:
    return Past(heads=HEADS, layers=2, rotate=Rotary(0.1 ** torch.arange(DIM // 2, dtype=torch.float64)))


def _outputs(
    policy: Policy, past: Past, q: Tensor, k: Tensor, v: Tensor, cuts: Sequence[int], *, stop: int = TIME
) -> Iterator[Tensor]:
    whole = copy.deepcopy(_as_chain(policy))
    for q_, k_, v_ in zip(*(each[:, :, :stop].split(list(cuts), dim=2) for each in (q, k, v)), strict=True):
        yield read(past, whole, q_, k_, v_)


def _run(policy: Policy, cuts: Sequence[int]) -> tuple[Tensor, Past]:
    past, stop = _past(), sum(cuts)
    q, k, v = (each[:, :, :stop] for each in _stream())
    return torch.cat(list(_outputs(policy, past, q, k, v, cuts, stop=stop)), dim=2), past


def _knowledge(past: Past) -> int:
    """Bytes of what is known of entries beyond their keys, values and times."""
    extra = 0 if past.queries is None else past.queries.nbytes
    for bank in past.banks:
        extra += sum(
            each.nbytes for each in (bank.log_mass, bank.received, bank.shift, bank.origin) if each is not None
        )
    return extra
