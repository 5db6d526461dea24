"""Laws of the control room: nothing at strength 0, maps that are maps, arguments left alone, every place and sample by itself."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attime.control.call import Call, Layout
from attime.control.contract import STAGES, Control
from attime.control.steering import steered
from attime.laws.contract import Law
from attime.site import Site

__all__ = ["LAWS"]

BATCH, HEADS, FRAMES, PLACES, WORDS, DIM = 2, 2, 4, 4, 3, 8
LAYERS, WIDE = 3, 2


def strength_zero_is_the_identity(control: Control) -> None:
    """With strength 0 every stage returns what it is given, bit for bit, and it says that it does nothing."""
    still = replace(control, strength=0.0)
    for call in _calls(control):
        assert not still.acts(call), "with strength 0 it still acts"
        for stage, given in _given(call):
            made = getattr(still, stage)(*given)
            before = (call.q, call.k, call.v) if stage == "heads" else given[:1]
            after = made if stage == "heads" else (made,)
            assert all(torch.equal(one, two) for one, two in zip(after, before, strict=True)), (
                f"with strength 0 it changes {stage}"
            )


def it_does_something(control: Control) -> None:
    """With the strength that it has, some call comes out different."""
    assert any(not torch.equal(_out(call, []), _out(call, [control])) for call in _calls(control)), "no call is changed"


def rows_sum_to_one(control: Control) -> None:
    """The maps of the calls that it changes have entries of 0 or more, and rows of sum one."""
    for call in _calls(control):
        _out(call, [control])
        assert (call.maps >= 0).all(), "a map has entries below 0"
        torch.testing.assert_close(call.maps.sum(-1), torch.ones_like(call.maps[..., 0]))


def arguments_are_left_alone(control: Control) -> None:
    """No stage writes into what it is given."""
    for call in _calls(control):
        for stage, given in _given(call):
            watched = {name: getattr(call, name) for name in ("q", "k", "v", "hidden", "stream", "visual")}
            watched |= {"given": given[0]} if isinstance(given[0], Tensor) else {}
            before = {name: each.clone() for name, each in watched.items() if each is not None}
            getattr(control, stage)(*given)
            changed = [name for name, each in before.items() if not torch.equal(each, watched[name])]
            assert not changed, f"{stage} writes into {changed}"


def calls_repeat(control: Control) -> None:
    """The same calls in the same order come out the same: nothing is drawn at random, nothing is kept outside the notes."""
    one, two = ([_out(call, [control]) for call in _calls(control)] for _ in range(2))
    assert all(torch.equal(first, second) for first, second in zip(one, two, strict=True))


def hidden_keys_stay_hidden(control: Control) -> None:
    """What the mask of the model hides stays without attention."""
    for call in _calls(control, masked=True):
        hidden = torch.isinf(call.scores)
        _out(call, [control])
        assert not (call.maps[hidden] > 0).any(), "attention goes where the model lets none go"


LAWS = (
    Law(strength_zero_is_the_identity),
    Law(it_does_something),
    Law(rows_sum_to_one, needs=("rows",)),
    Law(arguments_are_left_alone),
    Law(calls_repeat),
    Law(hidden_keys_stay_hidden),
)


def _calls(control: Control, *, masked: bool = False) -> Iterator[Call]:
    """One call per layer and step, at sites of the kinds that it is for, with everything known that can be known."""
    notes: dict[str, object] = {}
    for kind in control.traits.kinds or ("self",):
        for step in range(2):
            for layer in range(LAYERS):
                yield _call(kind, layer, step, notes, masked=masked)


def _call(kind: str, layer: int, step: int, notes: dict[str, object], *, masked: bool) -> Call:
    random = torch.Generator().manual_seed(97 * layer + step)
    clip = FRAMES * PLACES
    queries, keys, rows = {
        "self": (clip + WORDS, clip + WORDS, BATCH),
        "cross": (PLACES, WORDS, BATCH * FRAMES),
        "temporal": (FRAMES, FRAMES, BATCH * PLACES),
        "spatial": (PLACES, PLACES, BATCH * FRAMES),
        "joint": (clip + WORDS, clip + WORDS, BATCH),
    }[kind]

    def drawn(time: int) -> Tensor:
        return torch.randn(rows, HEADS, time, DIM, generator=random, dtype=torch.float64)

    layouts = {
        "temporal": Layout(frames=FRAMES, places=1, rows=PLACES, wide=WIDE),
        "spatial": Layout(frames=1, places=PLACES, rows=FRAMES, wide=WIDE),
        "cross": Layout(frames=1, places=PLACES, rows=FRAMES, wide=WIDE),
    }
    later = torch.ones(queries, keys, dtype=torch.bool).triu(1 + max(0, keys - queries))
    visual = torch.zeros(rows, keys, dtype=torch.bool)
    visual[:, 1 : 1 + clip] = kind == "self"
    angle = torch.arange(queries, dtype=torch.float64)[None, :, None] / 10 ** (torch.arange(DIM) % (DIM // 2))
    names = {"temporal": f"up_blocks.{layer}.motion_modules.0.transformer_blocks.0.attn1"}
    return Call(
        site=Site(name=names.get(kind, f"layers.{layer}.attention"), part="model", kind=kind, layer=layer, heads=HEADS),
        step=step,
        q=drawn(queries),
        k=drawn(keys),
        v=drawn(keys),
        scale=DIM**-0.5,
        mask=torch.zeros(queries, keys, dtype=torch.float64).masked_fill(later, -torch.inf) if masked else None,
        layout=layouts.get(kind, Layout(frames=FRAMES, places=PLACES, start=1 if kind == "self" else WORDS, wide=WIDE)),
        visual=visual if kind == "self" else None,
        hidden=torch.randn(rows, queries, HEADS * DIM, generator=random, dtype=torch.float64),
        stream=torch.randn(rows, queries, HEADS * DIM, generator=random, dtype=torch.float64),
        rotary=(angle.cos(), angle.sin()),
        notes=notes,
    )


def _given(call: Call) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every stage and what it is called with."""
    out = call.maps @ call.v
    firsts = {"heads": (), "scores": (call.scores,), "maps": (call.maps,), "outputs": (out,)}
    for stage in STAGES:
        yield stage, (*firsts[stage], call)


def _out(call: Call, controls: list[Control]) -> Tensor:
    def fast(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) * call.scale
        return (scores if call.added is None else scores + call.added).softmax(-1) @ v

    return steered(call, [(control, call.notes) for control in controls if control.acts(call)], fast)
