"""Every law of policies notices a fault that is put into the room."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import attime.laws.memory as laws
from attime.laws import banks
from attime.memory import Chain, Policy, attention
from attime.memory.bank import Bank
from attime.memory.buffer import Buffer
from attime.memory.evict import Evict, KeyNorm, Received, SinkWindow
from attime.memory.past import Past
from attime.memory.quantize import Quantize

LAW = {law.name: law for law in laws.LAWS if law not in banks.LAWS}
WINDOW = SinkWindow(sinks=2, window=14, every=4)
SCORED = Evict(score=KeyNorm(), budget=16, sinks=2, recent=3, every=4)
CODED = Quantize(bits=8, sinks=2, recent=3, every=4)
MAPPED = Evict(score=Received(), budget=16, sinks=2, recent=3, every=4)
SELECT, LOAD = Bank.select, laws.load_pasts


def backwards(self: Bank, kept: Tensor, *, room: int = 0) -> Bank:
    return SELECT(self, kept.flip(1), room=room)


def wasteful(self: Buffer, kept: Tensor, *, room: int = 0) -> Buffer:
    along = kept.view(*kept.shape, *[1] * (self.now.ndim - 2))
    return Buffer(self.now.take_along_dim(along, 1), room=room + 99)


def of_all_rows(self: KeyNorm, past: Past) -> list[Tensor]:
    rates = [-bank.keys().norm(dim=-1) for bank in past.banks]
    return [each.mean(0, keepdim=True).expand(len(each), -1) for each in rates]


def one_token_late(*args: Any, **options: Any) -> tuple[Sequence[Past], Any]:
    pasts, extra = LOAD(*args, **options)
    for past in pasts:
        past.seen += 1
    return pasts, extra


FAULTS: dict[str, tuple[Policy, Any, str, Any]] = {
    "any_chunking_agrees": (WINDOW, Chain, "until_tick", lambda self, seen: 7 - seen % 5),
    "the_past_ignores_the_future": (CODED, attention, "_seen", lambda bank, new, window: None),
    "it_stays_within_its_budget": (WINDOW, Past, "cut", lambda self, start, last, *, room=0: None),
    "a_short_past_is_untouched": (WINDOW, SinkWindow, "act", lambda self, past: past.cut(1, 2)),
    "entries_stay_in_order": (SCORED, Bank, "select", backwards),
    "acting_twice_is_acting_once": (
        WINDOW,
        SinkWindow,
        "act",
        lambda self, past: past.cut(2, past.banks[0].length - 3),
    ),
    "what_is_dropped_is_freed": (SCORED, Buffer, "select", wasteful),
    "what_is_told_is_what_is_held": (WINDOW, Buffer, "nbytes", property(lambda self: self.now.nbytes)),
    "rows_do_not_see_each_other": (SCORED, KeyNorm, "rate", of_all_rows),
    "a_saved_past_goes_on": (WINDOW, laws, "load_pasts", one_token_late),
    "missing_evidence_is_an_error": (MAPPED, Evict, "act", lambda self, past: None),
}


@pytest.mark.parametrize("name", LAW)
def test_the_fault_is_caught_and_nothing_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, where, what, fault = FAULTS[name]
    assert LAW[name].applies(policy)
    LAW[name].run(policy)
    monkeypatch.setattr(where, what, fault)
    with pytest.raises(AssertionError), torch.no_grad():
        LAW[name].run(policy)
