"""Controls of generation do what their equations say, on maps that are made for it and on models of the real classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from attime.control import Call, Layout
from attime.control.diffusion import (
    AttentionFusion,
    CaptionPath,
    FourierGain,
    ScoreTransfer,
    SelfGuidance,
    TemporalPrior,
    harmonic_fill,
)
from attime.control.diffusion.fourier_gain import energy
from attime.errors import AttimeError
from attime.hub import sites, steer, watch
from attime.site import Site
from attime.zoo import load
from attime.zoo.flow_matching import invert, walk
from attime.zoo.painter import LattePainter
from tiny_models import MODELS


def _maps(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        3, 2, frames, frames, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).softmax(-1)


def _called(name: str):
    model, inputs = MODELS[name].made()
    with torch.no_grad():
        return model, inputs, lambda: model(**inputs).sample.clone()


@pytest.mark.parametrize(("frames", "beta"), [(16, 1.5), (16, 10.0), (8, 0.0), (7, 2.0)])
def test_gain_of_all_waves_is_its_closed_form(frames: int, beta: float) -> None:
    own = _maps(frames)
    due = (1 / frames + beta * (own - 1 / frames)).relu()
    made = FourierGain(strength=beta - 1, floor=False).amplified(own, own).relu()
    torch.testing.assert_close(made / made.sum(-1, keepdim=True), due / due.sum(-1, keepdim=True), atol=1e-12, rtol=0)


def test_the_least_gain_gives_energy_back() -> None:
    own, first = _maps(16), _maps(16, seed=1)
    guided = torch.lerp(own, first, 0.6)
    assert energy(guided) < 0.8 * energy(own)
    for cutoff in (1, 3):
        made = FourierGain(strength=1e-9, cutoff=cutoff).amplified(guided, own)
        torch.testing.assert_close(energy(made), energy(own))


def test_slow_waves_stay_as_they_are() -> None:
    own = _maps(16)
    made = FourierGain(strength=2.0, cutoff=4, floor=False).amplified(own, own)
    before, after = (torch.fft.rfft(each, dim=-1) for each in (own, made))
    torch.testing.assert_close(after[..., :4], before[..., :4])
    torch.testing.assert_close(after[..., 4:], 3 * before[..., 4:])


def test_blocks_of_a_unet_lean_on_the_second_decoder_block() -> None:
    model, _, run = _called("animatediff")
    with torch.no_grad(), watch(model, where="temporal up_blocks") as plain:
        run()
    with torch.no_grad(), steer(model, SelfGuidance()), watch(model, where="temporal up_blocks") as guided:
        run()
    first = [record for record in guided if ".1." in record.site.name]
    assert first
    for one, two in zip(plain, guided, strict=True):
        same = torch.equal(one.value, two.value)
        assert same or "up_blocks.1" in two.site.name


def test_a_smaller_first_block_is_laid_over_a_larger_one() -> None:
    names = ("up_blocks.1.motion_modules.0.attn1", "up_blocks.2.motion_modules.0.attn1")
    notes: dict[str, object] = {}
    grid = {names[0]: (2, 3), names[1]: (4, 6)}
    made = {}
    for name, (high, wide) in grid.items():
        q = torch.randn(2 * high * wide, 1, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(high))
        call = Call(
            site=Site(name=name, part="unet", kind="temporal", layer=0, heads=1), step=0, q=q, k=q, v=q, scale=0.5,
            layout=Layout(frames=5, places=1, rows=high * wide, wide=wide), notes=notes,
        )  # fmt: skip
        made[name] = call.maps, SelfGuidance(strength=1.0).maps(call.maps, call)
    small, kept = made[names[0]]
    assert torch.equal(small, kept)
    wide = made[names[1]][1].reshape(2, 4, 6, 5, 5)
    torch.testing.assert_close(wide[:, 0, 0], small.reshape(2, 2, 3, 5, 5)[:, 0, 0])
    torch.testing.assert_close(wide[:, 3, 5], small.reshape(2, 2, 3, 5, 5)[:, 1, 2])
    torch.testing.assert_close(wide.sum(-1), torch.ones(2, 4, 6, 5, dtype=torch.float64))


def test_filling_is_harmonic_inside_and_nothing_outside() -> None:
    random = torch.Generator().manual_seed(0)
    scores = torch.randn(7 * 9, 2, 3, 3, generator=random, dtype=torch.float64)
    inside = torch.rand(7, 9, generator=random) < 0.4
    filled = harmonic_fill(scores, inside)
    assert torch.equal(filled[~inside.flatten()], scores[~inside.flatten()])
    laid = filled.reshape(7, 9, -1)
    around = [[laid[y + dy, x + dx] for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)) if 0 <= y + dy < 7 and 0 <= x + dx < 9]
              for y in range(7) for x in range(9)]  # fmt: skip
    means = torch.stack([torch.stack(each).mean(0) for each in around])[inside.flatten()]
    torch.testing.assert_close(laid[inside], means, atol=1e-7, rtol=0)
    ramp = (torch.arange(7.0)[:, None] + 2 * torch.arange(9.0)).reshape(-1, 1, 1, 1)
    middle = torch.zeros(7, 9, dtype=torch.bool)
    middle[2:5, 3:7] = True
    torch.testing.assert_close(harmonic_fill(torch.where(middle.reshape(-1, 1, 1, 1), 99.0, ramp), middle), ramp)
    with pytest.raises(AttimeError, match="needs scores of one clip"):
        harmonic_fill(scores, torch.ones(7, 9, dtype=torch.bool))


def test_scores_of_another_clip_take_their_place() -> None:
    model, inputs, run = _called("latte")
    with torch.no_grad(), watch(model, where="temporal", keep="scores") as seen:
        model(**inputs | {"hidden_states": torch.randn_like(inputs["hidden_states"])})
    control = ScoreTransfer(source={site: seen[site] for site in seen.sites})
    with torch.no_grad(), steer(model, control), watch(model, where="temporal", keep="scores") as now:
        run()
    for one, two in zip(seen, now, strict=True):
        assert torch.equal(one.value, two.value)
    wrong = replace(control, source={site: [value[0][..., :3, :3]] for site, value in control.source.items()})
    with pytest.raises(AttimeError, match="as many frames and places"), torch.no_grad(), steer(model, wrong):
        run()


@pytest.mark.parametrize("name", ["latte", "wan", "animatediff"])
def test_fusing_a_clip_with_itself_changes_nothing(name: str) -> None:
    model, inputs, run = _called(name)
    with torch.no_grad(), watch(model) as seen:
        before = run()
    control = AttentionFusion(source={site: seen[site] for site in seen.sites}, words=(1,), threshold=0.9)
    with torch.no_grad(), steer(model, control):
        torch.testing.assert_close(run(), before, atol=1e-5, rtol=1e-4)
        other = model(**inputs | {"encoder_hidden_states": 1 + inputs["encoder_hidden_states"]}).sample
    assert not torch.allclose(other, before, atol=1e-4)


def test_captions_along_a_clip_are_each_its_own_at_the_ends() -> None:
    model, inputs, _ = _called("latte")
    one, two = (torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    where = "cross 0"

    def first_outputs(words: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), watch(model, where=where, keep="outputs") as seen:
            model(**inputs | {"encoder_hidden_states": words})
        return seen.records[0].value

    alone = first_outputs(one), first_outputs(two)
    with steer(model, CaptionPath()):
        along = first_outputs(torch.cat([one, two], dim=1))
    torch.testing.assert_close(along[0], alone[0][0])
    torch.testing.assert_close(along[-1], alone[1][-1])
    assert not torch.allclose(along[2], alone[0][2])
    torch.testing.assert_close(CaptionPath(captions=3).weights(5).sum(1), torch.ones(5, dtype=torch.float64))
    wan, given, _ = _called("wan")
    with pytest.raises(AttimeError, match="frame by frame"), torch.no_grad(), steer(wan, CaptionPath(captions=3)):
        wan(**given)


def test_an_inverted_clip_comes_back() -> None:
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)) / 3

    def knows(*, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        return (torch.einsum("ij,bjthw->bithw", matrix @ matrix.T, hidden_states).tanh(),)

    words = torch.zeros(2, 6, 4)
    noise = torch.randn(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    steps = list(walk(knows, noise, words, words, steps=6, guidance=1.0))
    share = steps[-1].share
    added = (steps[-2].latents - (1 - share) * steps[-1].latents) / share
    found = invert(knows, steps[-1].latents, words, words, noise=added, steps=6, guidance=1.0, rounds=40)
    torch.testing.assert_close(found, noise, atol=1e-3, rtol=1e-3)


def test_a_painter_inverts_drawn_clips() -> None:
    painter = load("painter")
    prompts = ["the red square moves left slowly", "the green circle moves down slowly"]
    clips = painter.sentences.draw(prompts, random=np.random.default_rng(0), frames=8, size=16)  # pyright: ignore
    noise = painter.invert(clips, prompts, steps=8, guidance=1.0)  # pyright: ignore
    back = painter.paint(prompts, noise=noise, steps=8, guidance=1.0)  # pyright: ignore
    assert (-10 * np.log10(((back / 255 - clips / 255) ** 2).mean((1, 2, 3, 4)))).min() > 27
    with pytest.raises(AttimeError, match="a prompt for each"):
        painter.invert(clips, prompts[:1])  # pyright: ignore


def test_latte_is_stretched_and_given_back() -> None:
    painter = LattePainter(LattePainter.build())
    own = painter.model.temp_pos_embed
    assert painter.paint(painter.prompts[0], steps=1, frames=20).shape[1] == 20
    assert painter.model.temp_pos_embed is own


def test_a_prior_is_its_own_toeplitz_matrix() -> None:
    prior = TemporalPrior(width=2.0).prior(6)
    apart = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    assert torch.equal(prior, prior[0][apart])


def test_mistakes_are_told() -> None:
    site = sites(MODELS["latte"].made()[0])[0]
    for make, said in (
        (lambda: FourierGain(cutoff=0), "cutoff >= 1"),
        (lambda: SelfGuidance(strength=2.0), "from 0 to 1"),
        (lambda: ScoreTransfer(source={}), "scores of a site"),
        (lambda: AttentionFusion(source={site: []}, words=(1,)), "maps of a cross site"),
        (lambda: CaptionPath(captions=1), "captions >= 2"),
    ):
        with pytest.raises(AttimeError, match=said) as error:
            make()
        assert "\n" not in str(error.value)
