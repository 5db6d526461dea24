"""Measures of attention: known values on constructed maps, heads in any order, ranges as stated, clear sentences."""

import pytest
import torch

from attime import zoo
from attime.errors import AttimeError
from attime.hub import watch
from attime.lens import (
    agreement,
    attention_distance,
    attention_received,
    decay_rate,
    divergence,
    energy_split,
    future_influence,
    hidden_saliency,
    hop_profile,
    local_heads,
    sink_rate,
    spacetime_profile,
    temporal_energy,
)
from attime.papers import attention_sink
from attime.zoo.painter import WanPainter

TIME = 12


def causal(heads=4, time=TIME, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, heads, time, time, generator=random, dtype=torch.float64)
    return logits.masked_fill(torch.ones(time, time).triu(1).bool(), -torch.inf).softmax(-1)


def looking(back, time=TIME):
    """Every query looks at the token so far behind it (at the first, where there is none)."""
    place = (torch.arange(time) - back).clamp(min=0)
    return torch.eye(time, dtype=torch.float64)[place][None, None]


MEASURES = {
    "attention_received": (attention_received, 0.0, 1.0),
    "attention_distance": (attention_distance, 0.0, TIME - 1.0),
    "windowed": (lambda maps: attention_distance(maps, window=3), 0.0, 3.0),
    "future_influence": (lambda maps: future_influence(maps, near=1, far=4), 0.0, 1.0),
    "temporal_energy": (temporal_energy, 1 / TIME, 1.0),
    "low": (lambda maps: energy_split(maps, tau=3)[0], 0.0, 1.0),
    "high": (lambda maps: energy_split(maps, tau=3)[1], 0.0, 1.0),
    "over_frames": (lambda maps: spacetime_profile(maps, frames=4, places=3)[0], 0.0, 1.0),
    "over_places": (lambda maps: spacetime_profile(maps, frames=4, places=3)[1], 0.0, 1.0),
    "hops": (lambda maps: hop_profile(maps, height=3, width=4, first=0), 0.0, 1.0),
}


@pytest.mark.parametrize("name", MEASURES)
def test_heads_carry_through_and_numbers_are_in_range(name):
    measure, low, high = MEASURES[name]
    maps, order = causal(), torch.tensor([2, 0, 3, 1])
    made = measure(maps)
    torch.testing.assert_close(measure(maps[:, order]), made[:, order])
    assert made.min() >= low - 1e-12
    assert made.max() <= high + 1e-12
    assert not torch.allclose(made, measure(causal(seed=1)))


def test_a_sink_is_what_everybody_attends_to():
    maps = torch.cat([looking(TIME), looking(0), looking(1)], dim=1)
    torch.testing.assert_close(attention_received(maps)[0, :, 0], torch.tensor([1, 1 / 12, 2 / 12]).double())
    assert sink_rate(maps).tolist() == pytest.approx([1 / 3])
    assert sink_rate(maps, place=-1).tolist() == pytest.approx([1 / 3])  # the last token sees itself alone


def test_distance_and_influence_of_heads_that_look_a_fixed_way_back():
    maps = torch.cat([looking(2), looking(5)], dim=1)
    assert attention_distance(maps)[0, :, -1].tolist() == [2, 5]
    assert attention_distance(maps, window=3)[0, :, -1].tolist() == [2, 3]
    assert future_influence(maps, near=2, far=2)[0, :, 4].tolist() == [1, 0]
    assert future_influence(maps, near=4, far=5)[0, :, 4].tolist() == [0, 0.5]
    near, far = local_heads(maps, share=0.5)
    assert (near.tolist(), far.tolist()) == ([True, False], [False, True])


def test_energy_of_even_and_of_peaked_maps():
    even = torch.full((1, 1, 8, 8), 1 / 8, dtype=torch.float64)
    peaked = torch.eye(8, dtype=torch.float64)[None, None]
    assert float(temporal_energy(even)) == pytest.approx(1 / 8)
    assert float(temporal_energy(peaked)) == pytest.approx(1)
    maps = causal(time=8)
    low, high = energy_split(maps, tau=3)
    torch.testing.assert_close(low + high, temporal_energy(maps))
    assert float(energy_split(even, tau=3)[1]) == pytest.approx(0)
    assert float(energy_split(peaked, tau=3)[1]) == pytest.approx(7 / 8)


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 15, 16, 24])
def test_the_mean_is_slow_and_both_waves_of_a_pair_are_alike(frames):
    even = torch.full((1, 1, frames, frames), 1 / frames, dtype=torch.float64)
    low, high = energy_split(even)
    assert (float(low), float(high)) == (pytest.approx(1 / frames), pytest.approx(0, abs=1e-12))
    place = torch.arange(frames).double()
    for cycles in range(1, (frames + 1) // 2):
        wave = torch.cos(2 * torch.pi * cycles * place / frames).expand(1, 1, frames, -1)
        for tau in range(frames // 2 + 1):
            low, high = map(float, energy_split(wave, tau=tau))
            due = (0, frames / 2) if cycles >= frames / 2 - tau else (frames / 2, 0)
            assert (low, high) == (pytest.approx(due[0], abs=1e-9), pytest.approx(due[1], abs=1e-9))


def test_a_planted_decay_is_found():
    frames, places = 6, 4
    time, space = torch.arange(frames).double(), torch.arange(places).double()
    both = (
        torch.exp(-0.7 * (time[:, None] - time).abs())[:, None, :, None]
        * torch.exp(-0.3 * (space[:, None] - space).abs())[None, :, None]
    )
    maps = torch.zeros(1, 1, 26, 26, dtype=torch.float64)
    maps[0, 0, 2:, 2:] = both.reshape(24, 24)
    over_time, over_space = spacetime_profile(maps, frames=frames, places=places, start=2)
    for profile, rate in ((over_time, 0.7), (over_space, 0.3)):
        found, explained = decay_rate(profile)
        assert float(found) == pytest.approx(rate)
        assert float(explained) == pytest.approx(1)
    assert float(decay_rate(torch.tensor([[[0.1, 0.9, 0.2, 0.8, 0.1]]]))[1]) < 0.2


def test_attention_of_the_painter_falls_with_distance_in_time_and_in_space():
    painter = zoo.load("painter")
    assert isinstance(painter, WanPainter)

    def rates(call):
        if call.layout is None:
            return None
        size = {"frames": call.layout.frames, "places": call.layout.places, "start": call.layout.start}
        profiles = spacetime_profile(call.maps, **size) if call.site.kind == "joint" else ()
        return torch.stack([decay_rate(profile)[0] for profile in profiles]) if profiles else None

    with torch.no_grad(), watch(painter.model, keep=rates) as seen:
        painter.paint(painter.prompts[3:5], seed=0, steps=3)
    falling = (torch.cat([each.value for each in seen], dim=1) > 0).double().mean((1, 2))
    assert falling.min() > 0.7  # of heads, each at each step: 0.86 in time, 0.78 in space


def test_hops_of_a_head_that_looks_at_neighbours():
    itself = torch.eye(10, dtype=torch.float64)[None, None]
    profile = hop_profile(itself, height=3, width=3)
    assert profile[0, 0].tolist() == [1, 0, 0]
    maps = torch.full((1, 1, 10, 10), 0.1, dtype=torch.float64)
    profile = hop_profile(maps, height=3, width=3)[0, 0]
    assert float(profile.sum()) == pytest.approx(0.9)  # a tenth is on the class token
    assert profile.tolist() == pytest.approx([9 / 90, 40 / 90, 32 / 90])  # of 81 pairs of patches


def test_divergence_is_none_between_equals_and_one_bit_between_opposites():
    one, two = torch.tensor([[50.0, -50.0]]), torch.tensor([[-50.0, 50.0]])
    assert float(divergence(one, two)) == pytest.approx(1)
    assert float(divergence(one, one)) == pytest.approx(0)
    torch.testing.assert_close(divergence(one * 0.01, two * 0.01), divergence(two * 0.01, one * 0.01))


def test_saliency_finds_where_the_answer_is():
    weights = torch.zeros(2, 16, dtype=torch.float64)
    weights[0, 4:6], weights[1, 12:16] = 1.0, 2.0

    def score(inputs):
        return weights @ inputs

    found = hidden_saliency(score, torch.ones(16, dtype=torch.float64), sizes=(1, 2))
    assert found[0].nonzero()[:, 0].tolist() == [4, 5]
    assert found[1].argmax() in range(12, 16)
    assert agreement(weights, found).min() > 0.99
    torch.testing.assert_close(agreement(weights, -found), -agreement(weights, found))
    assert agreement(torch.ones(1, 4), torch.randn(1, 4)).tolist() == [0]


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (lambda: attention_received(torch.ones(1, 1, 3, 2)), "as many keys as queries"),
        (lambda: sink_rate(causal(), place=99), "got place=99"),
        (lambda: attention_distance(torch.ones(1, 1, 3, 2)), "attention_distance needs causal maps"),
        (lambda: future_influence(causal(), near=5, far=2), "near=5, far=2"),
        (lambda: local_heads(causal(), share=0.9), "got share=0.9"),
        (lambda: energy_split(causal(), tau=9), "got tau=9"),
        (lambda: spacetime_profile(causal(), frames=4, places=4), "maps of 12 x 12"),
        (lambda: decay_rate(torch.ones(1, 1, 2)), "3 distances or more; got 2"),
        (lambda: hop_profile(causal(), height=2, width=2), "got 12 x 12"),
        (lambda: hidden_saliency(lambda x: x[:1], torch.ones(4), sizes=(5,)), r"got \(5,\)"),
        (lambda: agreement(torch.ones(1, 2), torch.ones(1, 3)), "pool one of them"),
    ],
)
def test_mistakes_are_told_in_one_sentence(begin, said):
    with pytest.raises(AttimeError, match=said) as error:
        begin()
    assert "\n" not in str(error.value)


def test_what_a_spare_key_and_a_sum_of_one_do_is_exact():
    numbers = attention_sink.run(steps=2, rows=2).numbers
    assert numbers["spare key, shares among tokens off by"] < 1e-5
    assert numbers["spare key, outputs off by"] < 1e-5
    assert numbers["sigmoid, second difference"] < 1e-5 < 1e-3 < numbers["softmax, second difference"]
