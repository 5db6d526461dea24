"""Attention of the newest tokens to the entries of a bank: in one call where all is plain, with its map where it is not."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from attime.attention.kernels.merge import fused_partial, merge
from attime.memory.buffer import Buffer
from attime.memory.parked import Parked
from attime.memory.past import Apart, Bank, Past, Scoring
from attime.memory.recalled import Recalled

__all__ = ["attend", "logits_to"]

Grouped = Float[Tensor, "lanes groups time head_dim"]
Answers = Float[Tensor, "lanes groups time value_dim"]
Weights = Float[Tensor, "lanes groups time entries"]


def attend(past: Past, bank: Bank, q: Grouped) -> Answers:
    """Outputs of the new tokens, already in the bank, up to each one's own; entries note what they receive, where they do at all."""
    if bank.near is not None:
        return _near(past, bank, bank.near, q)
    if bank.parked is not None and not bank.parked.silent:
        return _recalling(past, bank, bank.parked, q)
    plain = (
        len(bank.stores) == 1
        and bank.log_mass is None
        and bank.received is None
        and past.apart is None
        and (bank.shift is None or bank.origin is not None)
    )
    return _fused(past, bank, q) if plain and _scoring(past).softcap is None else _explicit(past, bank, q)


def _near(past: Past, bank: Bank, near: Bank, q: Grouped) -> Answers:
    """Attention to copies of some entries; what these receive is the entries'."""
    near.received = None if bank.received is None else Buffer(torch.zeros(near.when.now.shape, device=q.device))
    out = attend(past, near, q)
    if bank.received is not None and near.received is not None:
        slots = torch.searchsorted(bank.when.now.contiguous(), near.when.now.contiguous())
        bank.received.now.scatter_add_(1, slots, near.received.now)
    return out


def _scoring(past: Past) -> Scoring:
    assert past.scoring is not None, "a past is scored as it is read"
    return past.scoring


def _whole(past: Past, bank: Bank) -> bool:
    """Whether the newest token sees every entry, however old, in spite of the model's own window."""
    window = _scoring(past).window
    if window is None or past.seen <= window:
        return True
    return past.seen - int(bank.when.now[:, 0].min()) <= window


def _seen(bank: Bank, new: int, window: int | None) -> Bool[Tensor, "#lanes new entries"] | None:
    """Which entries each of the last `new` tokens may see, all of those before it without a window; None if all see all."""
    when = bank.when.now
    if window is None:
        if new == 1:
            return None
        seen = torch.ones(1, new, bank.length, dtype=torch.bool, device=when.device)
        seen[:, :, bank.length - new :].tril_()
        return seen
    age = when[:, -new:, None] - when[:, None]
    return (age >= 0) & (age < window)


def _fused(past: Past, bank: Bank, q: Grouped) -> Answers:
    """Attention of one exact store, in one call or two; a single token's query heads are one sequence of queries."""
    store, (groups, new), scoring = bank.stores[0], q.shape[1:3], _scoring(past)
    keys, values = store.keys(), store.values()
    whole, before, scale = _whole(past, bank), bank.length - new, scoring.scale
    if new == 1 and whole and q.device.type == "cpu" and q.dtype.itemsize >= 4:  # two products beat one call
        return torch.bmm(torch.bmm(q.squeeze(2) * scale, keys.mT).softmax(-1), values).unsqueeze(2)
    keys, values = keys[:, None], values[:, None]
    if new == 1:
        seen = _seen(bank, new, None if whole else scoring.window)
        mask = None if seen is None else seen[:, None]
        return F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask, scale=scale).transpose(
            1, 2
        )
    keys, values = keys.expand(-1, groups, -1, -1), values.expand(-1, groups, -1, -1)
    if whole and not before:
        return F.scaled_dot_product_attention(q, keys, values, is_causal=True, scale=scale)
    learning = torch.is_grad_enabled() and any(each.requires_grad for each in (q, keys, values))
    if whole and q.device.type == "cpu" and not learning:  # without a mask, the past takes a fifth less time
        (old, own), (was, came) = (each.split([before, new], dim=2) for each in (keys, values))
        far, near = fused_partial(q, old, was, scale=scale), fused_partial(q, own, came, causal=True, scale=scale)
        return merge(far, near)[0]
    seen = _seen(bank, new, None if whole else scoring.window)
    assert seen is not None
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=seen[:, None], scale=scale)


def _explicit(past: Past, bank: Bank, q: Grouped) -> Answers:
    """Attention with its map: over several stores, with masses and moved keys; entries note what they receive."""
    return _mixed(bank, _present(past, bank, q).softmax(-1), q.dtype)


def _recalling(past: Past, bank: Bank, parked: Parked, q: Grouped) -> Answers:
    """Attention to the bank's entries and, in the same softmax, to what each query brings back."""
    present, made = _present(past, bank, q), []
    for recalled in parked.recall(past, bank, q):
        here = recalled.queries
        far = _recalled_logits(bank, recalled, q, _scoring(past))
        weights = torch.cat([present[:, :, here], far], dim=3).softmax(-1)
        near, far = weights[..., : bank.length], weights[..., bank.length :]
        made.append(_mixed(bank, near, q.dtype) + recalled.mixed(far.to(q.dtype)))
    return made[0] if len(made) == 1 else torch.cat(made, dim=2)


def _recalled_logits(
    bank: Bank, recalled: Recalled, q: Grouped, scoring: Scoring
) -> Float[Tensor, "lanes groups asked entries"]:
    """Logits to what was brought back, -inf where a model's own window ends before."""
    logits = _scored(recalled.logits(q[:, :, recalled.queries]), scoring)
    if recalled.log_mass is not None:
        logits = logits + recalled.log_mass.flatten(2)[:, None]
    if scoring.window is not None:
        when = recalled.when
        if when is None:
            when = recalled.first[..., None] + torch.arange(recalled.size, device=q.device)
        when = when.flatten(2)
        own = bank.when.now[:, -q.shape[2] :][:, recalled.queries, None]
        logits = logits.masked_fill((own - when >= scoring.window)[:, None], -torch.inf)
    return logits


def _present(past: Past, bank: Bank, q: Grouped) -> Weights:
    """Logits of the new tokens to all entries, -inf where they may not see."""
    groups, new = q.shape[1:3]
    logits = logits_to(past, bank, q.flatten(1, 2)).view(len(q), groups, new, -1)
    window = None if _whole(past, bank) else _scoring(past).window
    seen = _seen(bank, new, window)
    if seen is not None:
        late = 0 if window is not None else bank.length - new
        logits[..., late:].masked_fill_(~seen[:, None, :, late:], -torch.inf)
    return logits


def _mixed(bank: Bank, weights: Weights, dtype: torch.dtype) -> Answers:
    """The weighted sum of the values; entries note what they receive."""
    if bank.received is not None:
        bank.received.now.add_(weights.detach().sum((1, 2)).to(bank.received.now.dtype))
    flat = weights.to(dtype).flatten(1, 2)
    if len(bank.stores) == 1:
        return bank.stores[0].mixed(flat).view(*weights.shape[:3], -1)
    parts = flat.split([store.length for store in bank.stores], dim=2)
    out = sum(store.mixed(part) for store, part in zip(bank.stores, parts, strict=True))
    assert isinstance(out, Tensor)
    return out.unflatten(1, weights.shape[1:3])


def logits_to(past: Past, bank: Bank, flat: Tensor) -> Float[Tensor, "lanes queries entries"]:
    """Logits of queries (lanes, queries, head_dim) to all entries, with masses and moved keys, in float32 at least."""
    made = [store.logits(flat) for store in bank.stores]
    logits = made[0] if len(made) == 1 else torch.cat(made, dim=2)
    if bank.shift is not None and bank.origin is None:
        assert past.rotate is not None
        moved = bank.shift.shape[1]
        logits[:, :, :moved] = flat @ past.rotate(bank.keys(moved), bank.shift).transpose(1, 2)
    logits = _scored(logits, _scoring(past))
    if past.apart is None:
        return logits if bank.log_mass is None else logits + bank.log_mass.now[:, None]
    return _apart(past.apart, bank, logits)


def _scored(logits: Tensor, scoring: Scoring) -> Tensor:
    logits = (logits.float() if logits.dtype.itemsize < 4 else logits).mul_(scoring.scale)
    return logits if scoring.softcap is None else scoring.softcap * (logits / scoring.softcap).tanh()


def _apart(apart: Apart, bank: Bank, logits: Tensor) -> Tensor:
    """Logits where contexts were read side by side: a temperature among them, a scale for the log of their whole mass."""
    when = bank.when.now
    inside = ((when >= apart.start) & (when < apart.stop))[:, None]
    logits = torch.where(inside, logits / apart.temperature, logits)
    if bank.log_mass is not None:
        logits = logits + bank.log_mass.now[:, None]
    more = apart.scale * apart.temperature - 1
    if more and bool(inside.any()):
        whole = logits.masked_fill(~inside, -torch.inf).logsumexp(-1, keepdim=True)
        logits = torch.where(inside, logits + more * whole, logits)
    return logits
