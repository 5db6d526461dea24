"""Laws of the tokens room: patching is undone, positions know distances, reducers lose nothing and keep order."""

from math import prod

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attime.laws.contract import Law
from attime.laws.probes import LENGTH, close, few
from attime.tokens.contract import Patcher, Positions, Reduced, Reducer

__all__ = ["LAWS"]

CHANNELS = 3


def unpatch_undoes_patch(part: Patcher) -> None:
    """Data of any length, also less than one patch, comes back as it was; there are as many tokens as stated."""

    @few(8)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        lengths = tuple(data.draw(st.integers(1, 3 * size + 1)) for size in part.sizes)
        x = _random(2, *lengths, CHANNELS).requires_grad_()
        tokens = part.patch(x)
        expected = (2, prod(part.counts(*lengths)), prod(part.sizes) * CHANNELS)
        assert tokens.shape == expected, f"lengths {lengths} became tokens {tuple(tokens.shape)}, stated {expected}"
        back = part.unpatch(tokens, *lengths)
        close(back, x, f"data of lengths {lengths} did not come back")
        (gradient,) = torch.autograd.grad(back.sum(), x)
        close(gradient, torch.ones_like(x), f"gradients of lengths {lengths} did not come back")

    check()


def patches_are_in_order(part: Patcher) -> None:
    """What changes from some time on changes no patch that ends before it, and earlier times come in earlier tokens."""
    size, stride = part.sizes[0], part.strides[0]
    lengths = (4 * size, *(2 * each for each in part.sizes[1:]))
    x = _random(2, *lengths, CHANNELS)
    before, steps = part.patch(x), part.counts(*lengths)[0]
    per_step = before.shape[1] // steps
    for time in range(lengths[0]):
        changed = x.clone()
        changed[:, time:] += 1
        moved = (part.patch(changed) != before).any(dim=2).any(dim=0)
        expected = torch.tensor([step * stride + size > time for step in range(steps)]).repeat_interleave(per_step)
        assert torch.equal(moved, expected), (
            f"data from time {time} on is in tokens {moved.nonzero().flatten().tolist()}"
        )


def relative_positions_ignore_a_shift(part: Positions) -> None:
    """Inner products of codes stay when all places move; a place is most like itself."""
    places = torch.cat([torch.arange(LENGTH).double(), torch.tensor([0.5, 3.25], dtype=torch.float64)])
    codes = part.encode(places)
    assert codes.shape == (len(places), part.dim), f"{len(places)} places became codes {tuple(codes.shape)}"
    products = codes @ codes.T
    own = products.diagonal()
    assert bool((products - own.diag() < own[:, None] * (1 - 1e-6)).all()), "another place is as near as the own"

    @few(8)
    @given(st.integers(-5000, 1_000_000))
    def check(shift: int) -> None:
        moved = part.encode(places + shift)
        close(moved @ moved.T, products, f"inner products change when places move by {shift}", atol=1e-7)

    check()


def budget_is_met(part: Reducer) -> None:
    """There are at most `budget` tokens in a row and at least one, and no entries that no row could use."""
    x, valid = _random(2, LENGTH, 4), _valid({0, 5, 6, 7, 12})

    @few(10)
    @given(st.integers(1, LENGTH + 3))
    def check(budget: int) -> None:
        out = part.reduce(x, budget, valid=valid)
        assert out.tokens.shape == (2, min(budget, LENGTH), 4), f"budget {budget} gave {tuple(out.tokens.shape)}"
        kept = out.valid.sum(1).tolist()
        for count, there in zip(kept, valid.sum(1).tolist(), strict=True):
            assert 1 <= count <= min(budget, there), f"budget {budget} and {there} tokens gave {count} tokens"

    check()


def order_is_kept(part: Reducer) -> None:
    """Every input has an output; first members rise from output to output, and unused entries come last."""

    @few(10)
    @given(st.integers(1, LENGTH), st.integers(0, 3))
    def check(budget: int, seed: int) -> None:
        out = part.reduce(_random(2, LENGTH, 4, seed=seed), budget)
        assert out.owner.shape == (2, LENGTH), f"owners {tuple(out.owner.shape)} of {LENGTH} inputs"
        for owner, used in zip(out.owner, out.valid, strict=True):
            count = int(used.sum())
            assert bool(used[:count].all()), "an unused entry stands before a token"
            assert set(owner.tolist()) == set(range(count)), f"{count} tokens have members {owner.tolist()}"
            first = [owner.tolist().index(number) for number in range(count)]
            assert first == sorted(first), f"first members {first} do not rise at budget {budget}"

    check()


def mass_is_conserved(part: Reducer) -> None:
    """A token's mass is that of its members: all masses sum to the number of inputs, or to the masses passed."""
    x, valid, weights = _random(2, LENGTH, 4), _valid({1, 2, 9}), 0.5 + _random(2, LENGTH).abs()

    @few(8)
    @given(st.integers(1, LENGTH), st.booleans())
    def check(budget: int, weighted: bool) -> None:
        out = part.reduce(x, budget, valid=valid, mass=weights if weighted else None)
        each = (weights if weighted else torch.ones_like(weights)) * valid
        close(out.mass.sum(1), each.sum(1), f"masses at budget {budget} do not sum to what went in")
        close(out.mass, _summed(each[..., None], out)[..., 0], f"masses at budget {budget} are not their members'")

    check()


def mean_is_kept(part: Reducer) -> None:
    """Each token is the mean of its members, weighted by mass; so the mean of a row stays, also after reducing twice."""
    x, weights = _random(2, LENGTH, 4), 0.5 + _random(2, LENGTH).abs()

    @few(8)
    @given(st.integers(1, LENGTH))
    def check(budget: int) -> None:
        out = part.reduce(x, budget, mass=weights)
        means = _summed(x * weights[..., None], out) / out.mass[..., None].where(out.valid[..., None], 1)
        close(out.tokens, means, f"tokens at budget {budget} are not the means of their members")
        twice = part.reduce(out.tokens, max(1, budget // 2), valid=out.valid, mass=out.mass)
        total = (twice.tokens * twice.mass[..., None]).sum(1)
        close(total, (x * weights[..., None]).sum(1), f"reducing to {budget} and again moved the mean")

    check()


def kept_tokens_are_untouched(part: Reducer) -> None:
    """Each token is the first of its members, bit for bit."""
    x = _random(2, LENGTH, 4)

    @few(8)
    @given(st.integers(1, LENGTH))
    def check(budget: int) -> None:
        out = part.reduce(x, budget)
        for row in range(2):
            for number in range(int(out.valid[row].sum())):
                first = out.owner[row].tolist().index(number)
                close(out.tokens[row, number], x[row, first], f"token {number} is not input {first}", exact=True)

    check()


def full_budget_is_the_identity(part: Reducer) -> None:
    """A budget of all tokens or more changes nothing."""
    x = _random(2, LENGTH, 4)
    for budget in (LENGTH, LENGTH + 1, 10 * LENGTH):
        out = part.reduce(x, budget)
        close(out.tokens, x, f"a budget of {budget} changed some of {LENGTH} tokens", exact=True)
        assert bool((out.mass == 1).all()), f"a budget of {budget} gave masses other than 1"
        assert torch.equal(out.owner, torch.arange(LENGTH).expand(2, -1)), f"a budget of {budget} moved tokens"


def padding_is_ignored(part: Reducer) -> None:
    """A row gives the same alone as with padding anywhere beside a longer row; padding has no owner."""
    x = _random(2, LENGTH, 4)

    @few(10)
    @given(st.sets(st.integers(0, LENGTH - 1), min_size=1, max_size=LENGTH - 1), st.integers(1, LENGTH))
    def check(padded: set[int], budget: int) -> None:
        valid = _valid(padded)
        out = part.reduce(x.masked_fill(~valid[..., None], 1e3), budget, valid=valid)
        assert bool((out.owner[~valid] == -1).all()), "padding has an owner"
        assert bool((out.tokens[~out.valid] == 0).all()), "an unused entry is not zero"
        alone, other = part.reduce(x[:1, valid[0]], budget), part.reduce(x[1:], budget)
        where = f"with padding at {sorted(padded)} and budget {budget}"
        close(out.tokens[:1][out.valid[:1]], alone.tokens[alone.valid], f"tokens differ {where}")
        close(out.mass[:1][out.valid[:1]], alone.mass[alone.valid], f"masses differ {where}")
        assert torch.equal(out.owner[:1, valid[0]], alone.owner), f"owners differ {where}"
        close(out.tokens[1:], other.tokens, f"another row differs {where}")

    check()


def gradients_reach_the_inputs(part: Reducer) -> None:
    """Tokens pass finite gradients to inputs of each row; a single token, a single row, works and keeps its dtype."""
    for time, budget in ((LENGTH, 4), (1, 1)):
        x = _random(1, time, 4).float().requires_grad_()
        out = part.reduce(x, budget)
        assert out.tokens.dtype == torch.float32, f"float32 came out as {out.tokens.dtype}"
        (gradient,) = torch.autograd.grad(out.tokens.square().sum(), x)
        assert bool(gradient.isfinite().all()), "a gradient is not finite"
        assert bool(gradient.ne(0).any()), "no gradient reaches the inputs"


def length_one_works(part: Reducer) -> None:
    """A single token comes back as it was, whatever the budget."""
    x = _random(1, 1, 4)
    for budget in (1, 5):
        out = part.reduce(x, budget)
        close(out.tokens, x, f"the only token changed at budget {budget}", exact=True)
        assert out.mass.tolist() == [[1.0]]
        assert out.owner.tolist() == [[0]]


LAWS = (
    Law(unpatch_undoes_patch, needs=("patches",)),
    Law(patches_are_in_order, needs=("patches",)),
    Law(relative_positions_ignore_a_shift, needs=("relative",)),
    Law(budget_is_met, needs=("reduces",)),
    Law(order_is_kept, needs=("reduces",)),
    Law(mass_is_conserved, needs=("reduces",)),
    Law(mean_is_kept, needs=("merges",)),
    Law(kept_tokens_are_untouched, needs=("keeps",)),
    Law(full_budget_is_the_identity, needs=("reduces",)),
    Law(padding_is_ignored, needs=("reduces",)),
    Law(gradients_reach_the_inputs, needs=("reduces",)),
    Law(length_one_works, needs=("reduces",)),
)


def _random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _valid(padded: set[int]) -> Tensor:
    """Two rows; the first has padding."""
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    valid[0, sorted(padded)] = False
    return valid


def _summed(x: Tensor, out: Reduced) -> Tensor:
    """Sums of the inputs over the members of each output, with a loop."""
    total = torch.zeros(*out.mass.shape, x.shape[2], dtype=x.dtype)
    for row, owners in enumerate(out.owner.tolist()):
        for time, owner in enumerate(owners):
            if owner >= 0:
                total[row, owner] += x[row, time]
    return total
