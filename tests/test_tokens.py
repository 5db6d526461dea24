"""Token parts obey their laws, the laws bite, known values, and what is refused."""

# pyright: reportGeneralTypeIssues=false
# The faulty parts below inherit from final ones on purpose.

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attime.errors import AttimeError
from attime.laws import Law, cases
from attime.laws.tokens import LAWS
from attime.part import Part
from attime.tokens import Reduced
from attime.tokens.patch import GridPatches, SeriesPatches
from attime.tokens.position import Sinusoidal
from attime.tokens.reduce import KeepChanges, MergeSimilar

LAW = {law.name: law for law in LAWS}


@pytest.mark.parametrize(("part", "law"), cases("tokens"))
def test_law(part: Part, law: Law) -> None:
    law.run(part)


class SumsOverlaps(SeriesPatches):
    def join(self, tokens, lengths):
        ones = super().join(torch.ones_like(tokens), lengths)
        return super().join(tokens, lengths) * (1 + 0.5 * (ones.cumsum(1) > self.size))


class ShuffledFrames(GridPatches):
    def cut(self, data):
        return super().cut(data.flip(1))

    def join(self, tokens, lengths):
        return super().join(tokens, lengths).flip(1)


class ForgetsTheCosine(Sinusoidal):
    def encode(self, places):
        codes = super().encode(places)
        codes[..., 1::2] = codes[..., ::2]
        return codes


class AlwaysTheSame(Sinusoidal):
    def encode(self, places):
        return super().encode(torch.zeros_like(places))


class ThrowsOneAway(KeepChanges):
    def shrink(self, x, valid, mass, slots):
        tokens, owner = super().shrink(x, valid, mass, slots)
        return tokens, owner.clamp(min=1) if slots > 1 else owner


class OneTokenTooMany(KeepChanges):
    def reduce(self, x, budget, **options):
        return super().reduce(x, budget + 1, **options)


class AnyNeighbour(MergeSimilar):
    def shrink(self, x, valid, mass, slots):
        owner = torch.arange(x.shape[1]).expand(valid.shape) % slots
        tokens = torch.stack([x[:, place::slots].mean(1) for place in range(slots)], dim=1)
        return tokens.flip(1), slots - 1 - owner


class ForgetsTheMass(MergeSimilar):
    def shrink(self, x, valid, mass, slots):
        return super().shrink(x, valid, valid.to(x.dtype), slots)


class CountsOutputs(MergeSimilar):
    def reduce(self, x, budget, **options):
        out = super().reduce(x, budget, **options)
        return Reduced(out.tokens, out.valid.to(x.dtype), out.owner)


class Blurs(KeepChanges):
    def shrink(self, x, valid, mass, slots):
        tokens, owner = super().shrink(x, valid, mass, slots)
        return tokens + 1e-9, owner


class MergesPadding(MergeSimilar):
    def shrink(self, x, valid, mass, slots):
        return super().shrink(x, torch.ones_like(valid), mass.clamp(min=1), slots)


class CutsTheGradient(KeepChanges):
    def shrink(self, x, valid, mass, slots):
        return super().shrink((x - x).detach() + x.detach() + 0 * x, valid, mass, slots)


class Centres(MergeSimilar):
    def shrink(self, x, valid, mass, slots):
        tokens, owner = super().shrink(x, valid, mass, slots)
        return tokens - tokens.mean(1, keepdim=True), owner


FAULTS = [
    (SumsOverlaps(5, stride=2), "unpatch_undoes_patch"),
    (ShuffledFrames(2, 3, 4), "patches_are_in_order"),
    (ForgetsTheCosine(8), "relative_positions_ignore_a_shift"),
    (AlwaysTheSame(8), "relative_positions_ignore_a_shift"),
    (OneTokenTooMany(), "budget_is_met"),
    (ThrowsOneAway(), "order_is_kept"),
    (AnyNeighbour(), "order_is_kept"),
    (CountsOutputs(), "mass_is_conserved"),
    (ForgetsTheMass(), "mean_is_kept"),
    (Blurs(), "kept_tokens_are_untouched"),
    (Centres(), "full_budget_is_the_identity"),
    (MergesPadding(), "padding_is_ignored"),
    (CutsTheGradient(), "gradients_reach_the_inputs"),
    (Centres(), "length_one_works"),
]


@pytest.mark.parametrize(
    ("part", "law"), FAULTS, ids=lambda each: each if isinstance(each, str) else type(each).__name__
)
def test_the_fault_is_caught(part: Part, law: str) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        LAW[law].run(part)


def test_every_law_has_a_fault() -> None:
    assert {law for _, law in FAULTS} == set(LAW)


class TestPatches:
    def test_series(self) -> None:
        data = torch.arange(5.0)[None, :, None] + torch.tensor([0.0, 10.0])
        tokens = SeriesPatches(2).patch(data)
        assert tokens.tolist() == [[[0, 10, 1, 11], [2, 12, 3, 13], [4, 14, 4, 14]]]  # the last value is repeated
        assert torch.equal(SeriesPatches(2).unpatch(tokens, 5), data)
        tokens = SeriesPatches(3, stride=1).patch(data[..., :1])
        assert tokens.tolist() == [[[0, 1, 2], [1, 2, 3], [2, 3, 4]]]
        tokens[0, 1] += 3  # the way back is the mean of the copies
        assert SeriesPatches(3, stride=1).unpatch(tokens, 5).flatten().tolist() == [0, 2.5, 3, 4.5, 4]

    def test_grid(self) -> None:
        data = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4, 1)
        boxes = GridPatches(1, 2, 2)
        tokens = boxes.patch(data)
        assert boxes.counts(2, 4, 4) == (2, 2, 2)
        assert tokens[0, :3].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13]]
        assert tokens[0, 4].tolist() == [16, 17, 20, 21]
        assert boxes.counts(3, 5, 1) == (3, 3, 1)


def test_sinusoidal_is_the_equation() -> None:
    codes = Sinusoidal(4, base=100.0).encode(torch.tensor([[0, 3]]))
    expected = [[0, 1, 0, 1], [math.sin(3), math.cos(3), math.sin(0.3), math.cos(0.3)]]
    torch.testing.assert_close(codes, torch.tensor([expected], dtype=torch.float32))
    late = Sinusoidal(4).encode(torch.tensor([10**8]))
    torch.testing.assert_close(late[0, 0].item(), math.sin(10**8), rtol=0, atol=1e-6)


def _scenes(*lengths: int) -> Tensor:
    """Stretches of equal tokens, each a direction of its own."""
    return torch.eye(len(lengths), dtype=torch.float64).repeat_interleave(torch.tensor(lengths), dim=0)[None]


class TestReducers:
    def test_changes_are_kept(self) -> None:
        x = _scenes(4, 1, 6, 2)
        out = KeepChanges().reduce(x, 4)
        assert torch.equal(out.tokens, _scenes(1, 1, 1, 1))
        assert out.mass.tolist() == [[4, 1, 6, 2]]
        assert out.owner.tolist() == [[0] * 4 + [1] + [2] * 6 + [3] * 2]

    def test_slow_drift_adds_up(self) -> None:
        x = torch.tensor([0.0, 1, 2, 3, 3.1, 4, 5, 6.0])[None, :, None]
        assert KeepChanges().reduce(x, 3).tokens.flatten().tolist() == _greedy(x.flatten().tolist(), 3)

    @pytest.mark.parametrize("budget", range(1, 15))
    def test_the_fast_form_drops_what_a_loop_drops(self, budget: int) -> None:
        x = torch.randn(3, 14, 1, dtype=torch.float64)
        out = KeepChanges().reduce(x, budget)
        assert out.tokens[..., 0].tolist() == [_greedy(row, budget) for row in x[..., 0].tolist()]

    def test_neighbours_alike_merge_first(self) -> None:
        x = _scenes(2, 2, 2) * torch.tensor([1.0, 3, 2, 2, 5, 1])[:, None]  # alike in direction
        out = MergeSimilar().reduce(x, 3)
        assert out.owner.tolist() == [[0, 0, 1, 1, 2, 2]]
        assert torch.equal(out.tokens, 2 * _scenes(1, 1, 1) + torch.diag(torch.tensor([0.0, 0, 1])))
        out = MergeSimilar().reduce(x, 1)
        torch.testing.assert_close(out.tokens[0, 0], x[0].mean(0))
        assert out.mass.tolist() == [[6]]

    def test_a_token_takes_in_both_neighbours(self) -> None:
        x = _scenes(3, 1)
        assert MergeSimilar().reduce(x, 2).owner.tolist() == [[0, 0, 0, 1]]

    def test_a_small_share_is_nearer_to_best_first(self) -> None:
        x = torch.randn(8, 64, 4, dtype=torch.float64).cumsum(1)

        def error(share: float) -> float:
            out = MergeSimilar(share=share).reduce(F.normalize(x, dim=-1), 16)
            means = out.tokens.gather(1, out.owner[..., None].expand_as(x))
            return float((F.normalize(x, dim=-1) - means).square().mean())

        assert error(0.05) < 0.8 * error(0.5)

    def test_gradients_of_a_mean(self) -> None:
        x = _scenes(2, 2).requires_grad_()
        out = MergeSimilar().reduce(x, 2)
        (gradient,) = torch.autograd.grad(out.tokens[0, 0].sum(), x)
        assert gradient[0, :, 0].tolist() == [0.5, 0.5, 0, 0]

    @pytest.mark.parametrize("part", [KeepChanges(), MergeSimilar()], ids=lambda part: type(part).__name__)
    def test_long_rows_in_half_precision(self, part: KeepChanges | MergeSimilar) -> None:
        out = part.reduce(torch.randn(1, 1001, 2).bfloat16(), 2)
        assert out.tokens.dtype == torch.bfloat16
        assert float(out.mass.sum()) == 1001

    def test_rows_without_tokens(self) -> None:
        valid = torch.tensor([[False] * 5, [True] * 5])
        for part in (KeepChanges(), MergeSimilar()):
            out = part.reduce(torch.randn(2, 5, 3), 2, valid=valid)
            assert out.valid.tolist() == [[False, False], [True, True]]
            assert out.owner[0].tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SeriesPatches(0), "size >= 1"),
        (lambda: SeriesPatches(4, stride=5), "stride from 1 to size; got size=4, stride=5"),
        (lambda: SeriesPatches(4).patch(torch.zeros(2, 0, 3)), "at least one entry"),
        (lambda: SeriesPatches(4).patch(torch.zeros(2, 3, 4, 5)), r"\(batch time channels\); got 4 axes"),
        (lambda: SeriesPatches(4).unpatch(torch.zeros(2, 3, 4), 13), r"needs 4 patches for data of lengths \(13,\)"),
        (lambda: SeriesPatches(4).unpatch(torch.zeros(2, 3, 5), 12), "4 entries times channels; got 5"),
        (lambda: GridPatches(1, 0, 2), "got 1, 0, 2"),
        (lambda: GridPatches(1, 2, 2).counts(4, 4), r"\(time, height, width\), each >= 1; got \(4, 4\)"),
        (lambda: Sinusoidal(7), "even dim >= 2"),
        (lambda: Sinusoidal(8, base=1.0), "base > 1"),
        (lambda: MergeSimilar(share=0.6), "share <= 0.5; got 0.6"),
        (lambda: KeepChanges().reduce(torch.zeros(1, 3, 2), 0), "budget >= 1; got 0"),
        (lambda: KeepChanges().reduce(torch.zeros(3, 2), 1), r"\(batch time dim\); got 2 axes"),
        (
            lambda: KeepChanges().reduce(torch.zeros(1, 3, 2), 1, mass=torch.tensor([[1.0, 0.0, 1.0]])),
            "mass= above 0 at every valid token",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(make: Any, says: str) -> None:
    with pytest.raises(AttimeError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def _greedy(row: list[float], budget: int) -> list[float]:
    """Drop the token that is nearest to the one before it, again and again."""
    left = list(row)
    while len(left) > budget:
        changes = [abs(now - before) for before, now in pairwise(left)]
        del left[1 + changes.index(min(changes))]
    return left
