"""One layer's attention over its past: the chunk is cut at the ticks of the policies, so any chunking gives the same numbers."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attime.errors import AttimeError
from attime.memory.attention import attend, logits_to
from attime.memory.buffer import Buffer
from attime.memory.chained import Chain
from attime.memory.contract import Traits
from attime.memory.past import Bank, Past, Scoring

__all__ = ["Scoring", "observe", "read"]

Outputs = Float[Tensor, "batch heads time value_dim"]
Grouped = Float[Tensor, "lanes groups time head_dim"]
Answers = Float[Tensor, "lanes groups time value_dim"]


def read(
    past: Past,
    policy: Chain,
    q: Float[Tensor, "batch heads time head_dim"],
    k: Float[Tensor, "batch kv_heads time head_dim"],
    v: Float[Tensor, "batch kv_heads time value_dim"],
    *,
    scoring: Scoring | None = None,
    place: Int[Tensor, "batch time 2"] | None = None,
) -> Outputs:
    """Outputs (batch heads time value_dim) of this chunk's queries; `past` takes the chunk in, the policy acts at its ticks.

    q has the query heads, k and v the key-value heads, all rotated by the model. `place` is the least and greatest rotary
    position of each token, where positions have several axes.
    """
    rows, heads, time, dim = q.shape
    groups = heads // past.heads
    past.scoring = scoring or Scoring(scale=1 / math.sqrt(dim))
    lanes = q.reshape(rows * past.heads, groups, time, dim)
    keys, values = k.flatten(0, 1), v.flatten(0, 1)
    places = None if place is None else place.repeat_interleave(past.heads, dim=0)
    if past.halted is not None:
        halted, past.halted = past.halted, None
        raise halted
    if not past.banks:
        begun = replace(past)
        begun.append(keys[:, :0], values[:, :0], None if places is None else places[:, :0])
        policy.check(begun)
    for bank in past.banks:
        if bank.parked is not None and bank.parked.asked:
            positions = torch.arange(past.seen, past.seen + time, device=q.device)
            where = positions.expand(len(bank.lanes), -1) if places is None else places[bank.lanes, :, 0]
            bank.parked.ask(past, bank, lanes[bank.lanes], where)
    needs, made, start = policy.evidence(), [], 0
    while start < time:
        tick = policy.until_tick(past.seen)
        stop = time if tick is None else min(time, start + tick)
        own, where, asked = (keys, values), places, lanes
        if stop - start < time:
            own = keys[:, start:stop], values[:, start:stop]
            where, asked = None if places is None else places[:, start:stop], lanes[:, :, start:stop]
        past.append(*own, where)
        made.append(_segment(past, needs, asked, values.shape[-1]))
        if tick is not None and stop - start == tick:
            try:
                policy.act(past)
            except AttimeError as error:  # layers after this one have yet to take the chunk in
                past.halted = AttimeError(*error.args)
        start = stop
    whole = made[0] if len(made) == 1 else torch.cat(made, dim=2)
    return whole.reshape(rows, heads, time, whole.shape[-1])


def observe(
    past: Past, bank: Bank, last: int, *, some: Int[Tensor, " some"] | None = None
) -> Float[Tensor, "lanes groups asked entries"]:
    """What the last remembered queries, or `some` of them, would attend to of today's entries, each up to its own time."""
    assert past.queries is not None, "the policy asks for queries"
    assert past.scoring is not None
    q = past.queries.now[bank.lanes][:, -last:].transpose(1, 2)
    count, when, window = q.shape[2], bank.when.now, past.scoring.window
    own = torch.arange(past.seen - count, past.seen, device=q.device)
    if some is not None:
        q, own = q[:, :, some], own[some]
    logits = logits_to(past, bank, q.flatten(1, 2)).unflatten(1, q.shape[1:3])
    late = 0 if window is not None else max(0, bank.length - count)  # entries rise: who stands before was seen by all
    age = own[:, None] - when[:, None, late:]
    seen = (age >= 0) & (age < (window or past.seen + 1))
    logits[..., late:].masked_fill_(~seen[:, None], -torch.inf)
    weights = logits.softmax(-1)
    return weights if late else weights.nan_to_num(0.0)


def _segment(past: Past, needs: Traits, q: Grouped, value_dim: int) -> Answers:
    """Attention between two ticks: the past, and the new tokens (already in it) up to each one's own."""
    if needs.maps:
        for bank in past.banks:
            if bank.received is None:
                bank.received = Buffer(torch.zeros(bank.when.now.shape, device=q.device))
    if needs.queries:
        _remember(past, q, needs.queries)
    if len(past.banks) == 1:
        return attend(past, past.banks[0], q)
    out = q.new_empty(*q.shape[:3], value_dim)
    for bank in past.banks:
        own = attend(past, bank, q.index_select(0, bank.lanes))
        out.index_copy_(0, bank.lanes, own)
    return out


def _remember(past: Past, q: Grouped, most: int) -> None:
    recent = q.transpose(1, 2) if past.queries is None else torch.cat([past.queries.now, q.transpose(1, 2)], dim=1)
    past.queries = Buffer(recent[:, -most:])
