"""Run a model once under a watch, and make of every head one map along named sides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from attime.control.call import Call
from attime.errors import AttimeError
from attime.hub import watch
from attime.lens import attention_distance, local_heads
from attime.report.lens.page import Axis, Seen
from attime.report.lens.roles import is_causal, measures, roles, visual_sinks
from attime.site import Site, Where

__all__ = ["Side", "cells", "see"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a map: what stands along it, and of several tokens that are shown as one, which."""

    axis: Axis
    groups: Sequence[int] | None = None
    """For each token the number of its label, or -1 for one that is not shown; None: token and label are the same."""


def cells(rows: int, columns: int, most: int) -> tuple[tuple[int, int], list[int], int]:
    """Places of a picture joined until there are `most` at most: the new grid, the new place of each old one, places a side."""
    step = 1
    while ceil(rows / step) * ceil(columns / step) > max(1, most):
        step += 1
    grid = ceil(rows / step), ceil(columns / step)
    return (
        grid,
        [(row // step) * grid[1] + column // step for row in range(rows) for column in range(columns)],
        step,
    )


def see(
    model: Any,
    run: Callable[[], Any],
    along: Callable[[Call], tuple[str, str]],
    sides: Mapping[str, Side],
    *,
    where: Where | str | None = None,
    step: int | None = None,
    ids: Sequence[int] = (),
    clips: bool = False,
) -> tuple[list[Seen], Any]:
    """Every head of every site, in one step, and what `run` returned.

    Of places or frames that each have their own row or call it is the mean, else the last row of the batch. With `clips`
    a batch holds clips, of which the last is looked at. `along` names the sides of a call; they may be made by then.
    """
    named: list[tuple[str, str]] = []
    sizes: list[int] = []
    sinks: dict[Site, Tensor] = {}

    def kept(call: Call) -> Tensor | None:
        if step is not None and call.step != step:
            return None
        rows, columns = along(call)
        named.append((rows, columns))
        sizes.append(call.k.shape[2])
        mean = clips or call.site.kind in ("temporal", "spatial")
        last = call.layout.rows if clips and call.layout is not None else len(call.maps) if mean else 1
        share = visual_sinks(call)
        if share is not None:
            sinks[call.site] = share
        return _joined(call.maps[-last:].mean(0), sides[rows], sides[columns])

    with torch.no_grad(), watch(model, where=where, keep=kept) as seen:
        made = run()
    calls: dict[Site, tuple[list[Tensor], list[int], tuple[str, str]]] = {}
    for record, size, names in zip(seen, sizes, named, strict=True):
        values, raw, _ = calls.setdefault(record.site, ([], [], names))
        values.append(record.value.float())
        raw.append(size)
    if not calls:
        why = f"the model makes no step {step}" if step is not None else "this input does not come by these sites"
        raise AttimeError(f"nothing was seen: {why}.")
    found = list[Seen]()
    for site, (values, raw, (rows, columns)) in calls.items():
        values = _assembled(values, raw, sides[rows], sides[columns])
        mean = torch.stack(values).mean(0) if site.kind == "spatial" else values[-1]
        axis, square = sides[columns].axis, rows == columns
        grid = axis.grid if site.kind == "spatial" else None
        for head, weights in enumerate(mean):
            does = roles(weights, frames=axis.frames, grid=grid, square=square, ids=ids)
            if site in sinks and float(sinks[site][head]) >= 0.5:
                does["visual sink"] = float(sinks[site][head])
            found.append(
                Seen(
                    part=site.part,
                    kind=site.kind,
                    layer=site.layer,
                    head=head,
                    site=site.name,
                    weights=weights.numpy(),
                    rows=rows,
                    columns=columns,
                    roles=does,
                    measures=measures(weights, grid=grid, square=square),
                )
            )
    return _furthest(found), made


def _joined(maps: Tensor, rows: Side, columns: Side) -> Tensor:
    """Maps (heads query key) of tokens as maps of labels: keys are summed, queries averaged; others are left as they are."""
    if columns.groups is not None and len(columns.groups) == maps.shape[2]:
        there = torch.tensor(list(columns.groups), device=maps.device)
        wide = maps.new_zeros(*maps.shape[:2], len(columns.axis.labels) + 1)
        maps = wide.index_add(2, there.where(there >= 0, len(columns.axis.labels)), maps)[..., :-1]
    if rows.groups is not None and len(rows.groups) == maps.shape[1]:
        there = torch.tensor(list(rows.groups), device=maps.device)
        there = there.where(there >= 0, len(rows.axis.labels))
        high = maps.new_zeros(len(maps), len(rows.axis.labels) + 1, maps.shape[2]).index_add(1, there, maps)
        maps = (high / there.bincount(minlength=high.shape[1]).clamp(min=1)[:, None])[:, :-1]
    return maps


def _assembled(values: list[Tensor], raw: list[int], rows: Side, columns: Side) -> list[Tensor]:
    """Calls that saw one window each, put side by side until they are whole pictures."""
    whole = len(columns.axis.labels) if columns.groups is None else len(columns.groups)
    if all(size == whole for size in raw):
        return values
    made, now = list[Tensor](), list[Tensor]()
    for value in values:
        now.append(value)
        if sum(each.shape[2] for each in now) == whole:
            heads = zip(*(each.unbind(0) for each in now), strict=True)
            made.append(_joined(torch.stack([torch.block_diag(*each) for each in heads]), rows, columns))
            now = []
    if not made:
        raise AttimeError(
            f"these windows of {values[0].shape[2]} tokens do not make up a picture of {whole}: select other sites with --where."
        )
    return made


def _furthest(found: list[Seen]) -> list[Seen]:
    """The causal heads that look furthest back and have no sink are told so."""
    sides: dict[tuple[str, str], list[int]] = {}
    for place, each in enumerate(found):
        if each.rows == each.columns and len(each.weights) > 2 and is_causal(torch.from_numpy(each.weights)):
            sides.setdefault((each.part, each.rows), []).append(place)
    for causal in sides.values():
        maps = torch.stack([torch.from_numpy(found[place].weights).double() for place in causal])[None]
        _, far = local_heads(maps)
        reach = attention_distance(maps).mean((0, 2)) / ((maps.shape[2] - 1) / 2)
        for place, is_far, share in zip(causal, far.tolist(), reach.tolist(), strict=True):
            if is_far and len(causal) > 3 and not {"sink", "local"} & set(found[place].roles):
                found[place] = replace(found[place], roles={**found[place].roles, "far": min(1.0, share)})
    return found
