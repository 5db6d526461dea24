"""Heads of vision transformers: what they are worth, how far they look, what their maps look like."""

import pytest
import torch

from attime.control.language import PrunedHeads
from attime.errors import AttimeError
from attime.hub import sites, steer, watch
from attime.lens import dominant, hop_profile, importance, map_patterns, purity, rank_agreement
from attime.papers import vit_head_profile
from tiny_models import MODELS


def drawn(kind, count, *, side=4, seed=0):
    """Maps of one kind, each with a little of something else."""
    random = torch.Generator().manual_seed(seed)
    place = torch.arange(side**2)
    down, across = (each[:, None] - each.float() for each in (place // side, place % side))
    away = {"itself": 9 * (down**2 + across**2), "row": 9 * down**2, "column": 9 * across**2, "uniform": 0 * down}[kind]
    other = torch.randn(count, side**2, side**2, generator=random).softmax(-1)
    return 0.8 * (-away).softmax(-1) + 0.2 * other


def test_importance_of_a_head_that_decides_and_of_one_that_does_nothing():
    whole, true = torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]]), torch.tensor([0, 1, 1])
    same = importance(whole, whole, true)
    assert all(torch.equal(each, torch.zeros(3)) for each in same)
    worth = importance(whole, whole.flip(1), true)
    assert worth.flips.tolist() == [1, 1, 1]
    assert worth.mistakes.tolist() == [1, 1, -1]
    assert worth.surprise.tolist() == pytest.approx([4, 4, -4], abs=1e-5)
    assert worth.probability[0] == pytest.approx(float(whole.softmax(-1)[0, 0] - whole.softmax(-1)[0, 1]))
    assert 0.8 < float(worth.divergence.min()) <= 1
    half = importance(whole, whole / 2, true)
    assert half.flips.sum() == 0
    assert (half.divergence < worth.divergence).all()


def test_rank_agreement():
    values = torch.tensor([0.1, 5.0, 2.0, 2.0])
    assert rank_agreement(values, values**3) == pytest.approx(1)
    assert rank_agreement(values, -values) == pytest.approx(-1)
    assert rank_agreement(values, torch.ones(4)) == 0
    assert rank_agreement(torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([5.0, 6, 7, 8, 7])) == pytest.approx(
        0.8208, abs=1e-4
    )


def test_a_pruned_head_of_a_vit_says_nothing():
    model, inputs = MODELS["vit"].made()
    where = sites(model)
    with torch.no_grad(), watch(model, keep="outputs") as seen, steer(model, PrunedHeads(chosen=((where[1].name, 1),))):
        model(**inputs)
    first, second = (seen[site][0] for site in where)
    assert first.abs().amin(1).min() > 0 or first.abs().sum() > 0
    assert second[:, 1].abs().max() == 0
    assert second[:, 0].abs().max() > 0
    layer = model.get_submodule(where[1].name)
    dim = model.config.hidden_size // where[1].heads
    with torch.no_grad(), steer(model, PrunedHeads(chosen=((where[1].name, 1),))):
        pruned = model(**inputs).last_hidden_state
    values = next(part for name, part in layer.named_modules() if name.endswith(("value", "v_proj")))
    with torch.no_grad():
        values.weight[dim:].zero_()
        values.bias[dim:].zero_()
        torch.testing.assert_close(model(**inputs).last_hidden_state, pruned)


def test_hops_of_a_vit_sum_to_one_without_the_class_token():
    model, inputs = MODELS["vit"].made()
    with torch.no_grad(), watch(model) as seen:
        model(**inputs)
    for record in seen:
        hops = hop_profile(record.value, height=2, width=2)
        of_class = record.value[:, :, 1:, 0].mean(-1)
        torch.testing.assert_close(hops.sum(-1), 1 - of_class)


def test_planted_patterns_are_told_apart():
    kinds = ("itself", "row", "column", "uniform")
    maps = torch.cat([drawn(kind, 12, seed=number) for number, kind in enumerate(kinds)])
    true = torch.arange(4).repeat_interleave(12)
    found = map_patterns(maps, types=4, steps=80)
    assert purity(found.types, true) >= 0.95
    assert found.types.bincount().tolist() == sorted(found.types.bincount().tolist(), reverse=True)
    torch.testing.assert_close(found.typical.sum(-1), torch.ones(4, 16))
    again = map_patterns(maps, types=4, steps=80)
    assert torch.equal(found.types, again.types)
    which, share = dominant(found.types.view(8, 6))
    assert purity(which, torch.arange(4).repeat_interleave(2)) == 1
    assert share.min() >= 0.8
    assert purity(torch.zeros(48).long(), true) == 0.25


def test_maps_need_not_be_square_nor_a_multiple_of_eight():
    maps = torch.rand(6, 9, 13).softmax(-1)
    found = map_patterns(maps, types=2, steps=2)
    assert found.latents.shape == (6, 8)
    assert found.typical.shape == (2, 9, 13)


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (lambda: importance(torch.ones(2, 3), torch.ones(2, 2), torch.ones(2).long()), "same images with and without"),
        (lambda: rank_agreement(torch.ones(1), torch.ones(1)), "two values or more"),
        (lambda: map_patterns(torch.ones(2, 8, 8), types=3), "types=3"),
        (lambda: map_patterns(torch.ones(4, 4, 4), types=2), "8 x 8 or more"),
        (lambda: purity(torch.ones(2).long(), torch.ones(3).long()), "a type and a kind for each map"),
        (lambda: PrunedHeads(strength=2), "strength from 0 to 1"),
    ],
)
def test_mistakes_are_told_in_one_sentence(begin, said):
    with pytest.raises(AttimeError, match=said) as error:
        begin()
    assert "\n" not in str(error.value)


def test_a_head_that_is_not_there():
    model, inputs = MODELS["vit"].made()
    with (
        pytest.raises(AttimeError, match="has heads 0 to 1"),
        steer(model, PrunedHeads(chosen=((sites(model)[0].name, 7),))),
    ):
        model(**inputs)


def test_the_paper_tells_worth_from_peakedness():
    verdict = vit_head_profile.run(each=8, maps=32)
    ranked = {name: value for name, value in verdict.numbers.items() if "ranks" in name}
    assert ranked["divergence ranks as the drop of accuracy"] > ranked["peakedness ranks as the drop of accuracy"]
    assert verdict.numbers["hops, sum off by"] < 1e-5
