"""Controls side by side, and what they say about values, sites, heads and words that cannot be."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from attime.control import Call, Control, Layout
from attime.control.diffusion import (
    AttentionFusion,
    FourierGain,
    FromFirst,
    PerturbedHeads,
    ScoreTransfer,
    SubjectKeys,
    TemporalPrior,
    Windows,
    WordWeight,
)
from attime.control.language import AnyOrder, LocalView, PrunedHeads, SinkCalibration, VisualBoost
from attime.errors import AttimeError
from attime.hub import guide, sites, steer, watch
from attime.site import Site
from tiny_models import MODELS

NAN, INF = float("nan"), float("inf")


@torch.no_grad()
def run(model, inputs, *controls, where=None):
    """What a model makes, under controls if there are any."""
    if not controls:
        return model(**inputs).sample.clone()
    with steer(model, *controls, where=where):
        return model(**inputs).sample.clone()


def twice(inputs, *, alike):
    """Inputs of two clips, the same or of another noise."""
    noise = inputs["sample"]
    words = inputs["encoder_hidden_states"]
    return inputs | {
        "sample": torch.cat([noise, noise if alike else torch.randn_like(noise)]),
        "timestep": inputs["timestep"].expand(2),
        "encoder_hidden_states": torch.cat([words, words]),
    }


@pytest.mark.parametrize("name", ["animatediff", "unet"])
def test_windows_beside_perturbed_heads_act_in_any_order(name):
    model, inputs = MODELS[name].made()
    both = Windows(), PerturbedHeads(strength=0.5)
    made = [run(model, inputs, *order, where="spatial") for order in permutations(both)]
    torch.testing.assert_close(*made)
    alone = [run(model, inputs, each, where="spatial") for each in both]
    assert not any(torch.allclose(made[0], each, atol=1e-4) for each in alone)


@pytest.mark.parametrize("what", ["queries", "maps"])
def test_clips_that_are_alike_follow_the_first_without_a_change_in_windows_too(what):
    model, inputs = MODELS["animatediff"].made()
    alike, other = (twice(inputs, alike=each) for each in (True, False))
    for order in permutations((Windows(), FromFirst(what=what))):
        torch.testing.assert_close(
            run(model, alike, *order, where="spatial"), run(model, alike, Windows(), where="spatial")
        )
    made = [run(model, other, *order, where="spatial") for order in permutations((Windows(), FromFirst(what=what)))]
    torch.testing.assert_close(*made)
    assert not torch.allclose(made[0], run(model, other, Windows(), where="spatial"), atol=1e-4)


def test_who_watches_windows_is_told_how_their_tokens_lie():
    model, inputs = MODELS["animatediff"].made()
    layouts = []
    with watch(model, where="spatial 0", keep=lambda call: layouts.append((call.layout, call.q)) or call.q):
        run(model, twice(inputs, alike=True))
        run(model, twice(inputs, alike=True), Windows(), where="spatial")
    (whole, q), (cut, cut_q) = layouts
    assert cut == Layout(frames=1, places=whole.places // 4)
    assert (cut.rows, cut.wide) == (whole.rows * 4, whole.wide // 2)
    assert len(q) == 2 * whole.rows
    assert len(cut_q) == 2 * cut.rows


def test_rows_change_only_where_a_control_says_how_they_lie():
    @dataclass(frozen=True, kw_only=True)
    class Halved(Control):
        def heads(self, call):
            return call.q[: len(call.q) // 2], call.k, call.v

        @classmethod
        def examples(cls):
            return [cls()]

    model, inputs = MODELS["unet"].made()
    with pytest.raises(AttimeError, match="Halved must keep the queries"):
        run(model, twice(inputs, alike=True), Halved())


@pytest.mark.parametrize("of", [ScoreTransfer, lambda source: AttentionFusion(source=source, words=(1,))])
def test_a_source_of_other_sites_is_told(of):
    model, inputs = MODELS["animatediff"].made()
    with watch(model, keep="maps") as seen:
        run(model, inputs)
    source = {site: seen[site] for site in seen.sites}
    control = of(source=source)
    steer(model, control)
    pipe = SimpleNamespace(components={"unet": model})
    for put in (steer, guide):
        with pytest.raises(AttimeError, match="watch and steer the same model") as error:
            put(pipe, control)
        assert "\n" not in str(error.value)


def test_heads_that_are_nowhere_are_told():
    latte, llama = MODELS["latte"].made()[0], MODELS["llama"].made()[0]
    there = next(site for site in sites(latte) if site.kind == "spatial")
    for model, control, where in (
        (latte, PerturbedHeads(chosen=(("nope", 0),)), None),
        (latte, PerturbedHeads(chosen=((there.name, 0), ("nope", 0))), None),
        (latte, PerturbedHeads(chosen=((there.name, 0),)), "temporal"),
        (llama, PrunedHeads(chosen=(("no.such", 0),)), None),
        (llama, SinkCalibration(chosen=((99, 0),)), "self"),
        (llama, SinkCalibration(chosen=((0, 0),)), "1"),
    ):
        with pytest.raises(AttimeError, match="was told of head") as error:
            steer(model, control, where=where)
        assert "\n" not in str(error.value)
    for head in (-1, 99):
        with (
            steer(llama, SinkCalibration(chosen=((1, head),)), where="1"),
            pytest.raises(AttimeError, match="has heads 0 to"),
        ):
            llama(torch.tensor([[1, 2, 3]]))


def test_a_subject_needs_words_and_places_for_it():
    for name, where in (("cogvideox", None), ("wan", "joint"), ("wan", "cross")):
        with pytest.raises(AttimeError, match="so it needs both"):
            steer(MODELS[name].made()[0], SubjectKeys(words=(0,)), where=where)


CROSS = {
    Site(name="a.attn2", part="unet", kind="cross", layer=0, heads=2): [torch.full((1, 2, 4, 3), 1 / 3)],
}
MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    (TemporalPrior, {"strength": "1"}, "strength to be a finite number; got '1'"),
    (WordWeight, {"words": (0,), "strength": None}, "strength to be a finite number; got None"),
    (TemporalPrior, {"strength": NAN}, "strength to be a finite number; got nan"),
    (FourierGain, {"strength": INF}, "strength to be a finite number; got inf"),
    (lambda **given: replace(FourierGain(), **given), {"strength": NAN}, "strength to be a finite number; got nan"),
    (TemporalPrior, {"width": NAN}, "width to be a finite number"),
    (VisualBoost, {"local_gain": NAN}, "local_gain to be a finite number"),
    (FourierGain, {"steps": 3}, r"steps to be a range such as range\(5\) or None; got 3"),
    (FourierGain, {"cutoff": 1.5}, "cutoff to be a whole number; got 1.5"),
    (WordWeight, {"words": 1}, r"words to be a tuple \(a whole number, ...\); got 1"),
    (Windows, {"shifts": (0.0, NAN)}, r"shifts to be a tuple \(a finite number, ...\)"),
    (Windows, {"windows": (2,)}, r"windows to be a tuple \(a whole number, a whole number\)"),
    (
        PrunedHeads,
        {"chosen": ((0, 1),)},
        r"chosen to be a tuple \(a tuple \(a text in quotes, a whole number\), ...\) or None",
    ),
    (AnyOrder, {"segments": ((0, 3, 4),)}, "needs segments to be"),
    (VisualBoost, {"local": [True]}, r"local to be a bool tensor \(batch visual\) or None; got \[True\]"),
    (LocalView, {"keep": torch.ones(1, 4)}, r"keep to be a bool tensor .*; got a tensor \(1, 4\) of float32"),
    (LocalView, {"keep": torch.ones(4, dtype=torch.bool)}, "keep to be a bool tensor"),
    (ScoreTransfer, {"source": [torch.ones(1, 1, 2, 2)]}, "source to be a mapping"),
    (ScoreTransfer, {"source": {"a": [torch.ones(1, 1, 2, 2)]}}, "source to be a mapping"),
    (AttentionFusion, {"source": CROSS, "words": (99,)}, "sees words 0 to 2"),
    (AttentionFusion, {"source": CROSS, "words": (-1,)}, "sees words 0 to 2"),
    (AttentionFusion, {"source": CROSS, "words": (1,), "strength": 2.0}, "strength from 0 to 1"),
    (partial(guide, None, PerturbedHeads()), {"scale": "3"}, "a finite scale >= 0"),
    (partial(guide, None, PerturbedHeads()), {"scale": NAN}, "a finite scale >= 0"),
]


@pytest.mark.parametrize(("make", "given", "said"), MISTAKES)
def test_values_that_cannot_be_are_told_in_one_sentence(make, given, said):
    with pytest.raises(AttimeError, match=said) as error:
        make(**given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "given"),
    [
        (TemporalPrior, {"strength": 1, "width": np.float32(2)}),
        (WordWeight, {"words": [0, np.int64(1)], "add": 1}),
        (AnyOrder, {"segments": [(0, 3), (3, 5)], "steps": range(2)}),
        (ScoreTransfer, {"source": {site: torch.stack(each) for site, each in CROSS.items()}}),
    ],
)
def test_whole_numbers_lists_and_numbers_of_numpy_will_do(make, given):
    made = make(**given)
    assert all(getattr(made, name) is value for name, value in given.items())
    with pytest.raises(TypeError, match="widht"):
        make(**given, widht=1.0)


def test_a_call_keeps_its_own_values_under_controls_that_regroup():
    model, inputs = MODELS["unet"].made()
    seen: list[Call] = []

    @dataclass(frozen=True, kw_only=True)
    class Looking(Control):
        def outputs(self, out, call):
            seen.append(call)
            assert out.shape == call.v.shape
            return out

        @classmethod
        def examples(cls):
            return [cls()]

    run(model, inputs, Windows(), Looking(), where="spatial")
    assert seen
    assert all(call.layout is not None and call.q.shape[2] == call.layout.places for call in seen)
