"""Attention under controls: the stages of all of them, one after the other, on one call."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attime.control.call import Call, Heads
from attime.control.contract import Control
from attime.errors import AttimeError

__all__ = ["steered"]


def steered(
    call: Call,
    controls: list[tuple[Control, dict[str, Any]]],
    fast: Callable[[Heads, Heads, Heads], Heads],
    *,
    explicit: bool = False,
) -> Heads:
    """Outputs of a call under controls, each with its own notes; `fast` is attention where nobody asks for scores or maps.

    With `explicit`, outputs are computed from the map all the same, so that gradients reach it. What the controls made of
    queries, keys, values, scores, maps and layout is what `call` holds afterwards.
    """
    notes = call.notes
    stages = {stage for control, _ in controls for stage in control.stages()}
    explicit = explicit or bool(stages & {"scores", "maps"})
    controls = sorted(controls, key=lambda each: each[0].regroups())
    inner = list[tuple[Control, Call]]()
    for control, own in controls:
        call.notes = own
        (q, k, v), layout = control.heads(call), control.layout(call)
        if control.regroups():
            inner.append((control, replace(call)))
        elif q.shape[:3] != call.q.shape[:3]:
            raise AttimeError(
                f"{type(control).__name__} must keep the queries (batch heads time) of {call.site.name} as they are, "
                f"{tuple(call.q.shape[:3])}, or say by layout how they lie now; it made {tuple(q.shape[:3])}."
            )
        call.q, call.k, call.v, call.layout = q, k, v, layout
    if "heads" in stages:
        for stage in ("scores", "maps"):
            call.__dict__.pop(stage, None)
    if not explicit:
        out = fast(call.q, call.k, call.v)
    else:
        for stage in ("scores", "maps"):
            now = getattr(call, stage)
            for control, own in controls:
                call.notes = own
                now = getattr(control, stage)(now, call)
                if now.shape[-2:] != (call.q.shape[2], call.k.shape[2]):
                    raise AttimeError(
                        f"{type(control).__name__} must keep the {stage} (query key) of {call.site.name} as they are, "
                        f"{call.q.shape[2]} x {call.k.shape[2]}; it made {now.shape[-2]} x {now.shape[-1]}."
                    )
            setattr(call, stage, now)
        out = call.maps.to(call.v.dtype) @ call.v
    whole = call
    for control, whole in reversed(inner):
        out = control.outputs(out, whole)
    for control, own in controls[: len(controls) - len(inner)]:
        whole.notes = own
        out = control.outputs(out, whole)
    call.notes = notes
    return out
