"""Controls of generation in real classes: what is exact is exact, and mistakes are told."""

import pytest
import torch
from torch.nn import functional as F

from attime.control.diffusion import (
    FrameOrder,
    FromFirst,
    PerturbedHeads,
    SceneCaptions,
    SubjectKeys,
    Windows,
    WordWeight,
    coherent_tail,
    frame_queue,
    hunt,
)
from attime.errors import AttimeError
from attime.hub import guide, sites, steer, watch
from attime.hub.coarse import coarse
from tiny_models import MODELS

FLAT = ("latte", "animatediff", "unet3d")


@torch.no_grad()
def called(model, inputs):
    """What a denoiser makes."""
    return model(**inputs).sample.clone()


def kept(model, inputs, where, what, *controls):
    """Tensors of one site under controls, and queries, keys and values as they came."""
    with watch(model, where=where, keep=what) as seen:
        if controls:
            with steer(model, *controls, where=where):
                called(model, inputs)
        else:
            called(model, inputs)
    return seen.records[0].value


def made(name, clips=1):
    """A tiny model, inputs of so many clips, and the frames of a clip."""
    model, inputs = MODELS[name].made()
    key = "hidden_states" if "hidden_states" in inputs else "sample"
    frames = inputs[key].shape[2]
    torch.manual_seed(1)
    inputs[key] = torch.randn(clips, *inputs[key].shape[1:])
    inputs["timestep"] = inputs["timestep"].expand(clips)
    words = inputs["encoder_hidden_states"]
    inputs["encoder_hidden_states"] = torch.randn(
        clips * (len(words) if name == "animatediff" else 1), *words.shape[1:]
    )
    return model, inputs, frames


@pytest.mark.parametrize("name", [*FLAT, "wan"])
def test_every_frame_reads_its_own_caption_exactly(name):
    model, inputs, frames = made(name, clips=2)
    told = [inputs["encoder_hidden_states"], torch.randn_like(inputs["encoder_hidden_states"])]
    if "encoder_attention_mask" in inputs:
        del inputs["encoder_attention_mask"]
    control = SceneCaptions(begins=(2,))
    both = inputs | {"encoder_hidden_states": torch.cat(told, dim=1)}
    ours = kept(model, both, "cross 0", "outputs", control)
    alone = [kept(model, inputs | {"encoder_hidden_states": each}, "cross 0", "outputs") for each in told]
    of = control.scene(frames)
    if name == "wan":
        frames_first = [each.unflatten(2, (frames, -1)).transpose(1, 2) for each in (ours, *alone)]
    else:
        frames_first = [each.unflatten(0, (2, frames)) for each in (ours, *alone)]
    for frame, scene in enumerate(of.tolist()):
        torch.testing.assert_close(frames_first[0][:, frame], frames_first[1 + scene][:, frame])
    assert of.tolist() == [0, 0, *[1] * (frames - 2)]
    torch.testing.assert_close(
        called_under(model, inputs | {"encoder_hidden_states": told[0].repeat(1, 2, 1)}, control), called(model, inputs)
    )


def called_under(model, inputs, *controls, where=None):
    """What a denoiser makes under controls."""
    with steer(model, *controls, where=where):
        return called(model, inputs)


def test_scenes_are_as_long_as_each_other_unless_told():
    assert SceneCaptions(scenes=3).scene(7).tolist() == [0, 0, 0, 1, 1, 2, 2]
    model, inputs, _ = made("latte")
    with pytest.raises(AttimeError, match="4 captions of one length"):
        called_under(model, inputs, SceneCaptions(scenes=4))
    with pytest.raises(AttimeError, match="a rising frame above 0"):
        SceneCaptions(scenes=3, begins=(4, 2))


@pytest.mark.parametrize("name", ["latte", "wan"])
def test_a_word_counts_more_or_less_where_it_should(name):
    model, inputs, frames = made(name, clips=2)
    plain = kept(model, inputs, "cross 0", "maps")
    ours = kept(
        model, inputs, "cross 0", "maps", WordWeight(words=(1,), add=0.25, times=0.5, frames=range(1, 2), asked=1)
    )
    wanted = plain.clone()
    if name == "latte":
        chosen = frames + 1
        wanted[chosen, ..., 1] = 0.5 * plain[chosen, ..., 1] + 0.25
    else:
        places = plain.shape[2] // frames
        wanted[1, :, places : 2 * places, 1] = 0.5 * plain[1, :, places : 2 * places, 1] + 0.25
    torch.testing.assert_close(ours, wanted)
    with pytest.raises(AttimeError, match="sees words 0 to"):
        called_under(model, inputs, WordWeight(words=(99,), add=1.0))


@pytest.mark.parametrize("name", ["latte", "animatediff", "cogvideox"])
def test_what_is_moved_in_time_comes_out_moved(name):
    model, inputs = MODELS[name].made()
    where = "joint 0" if name == "cogvideox" else "temporal 0"
    plain = kept(model, inputs, where, "outputs")
    ours = kept(model, inputs, where, "outputs", FrameOrder())
    if name == "cogvideox":
        assert torch.allclose(ours[:, :, :3], plain[:, :, :3], atol=1e-5)
        order = [2, 0, 1]
        frames = plain[:, :, 3:].unflatten(2, (3, -1))
        torch.testing.assert_close(ours[:, :, 3:].unflatten(2, (3, -1)), frames[:, :, order])
    else:
        torch.testing.assert_close(ours, plain[:, :, [3, 4, 0, 1, 2]])
    with pytest.raises(AttimeError, match="7 stretches"):
        called_under(model, inputs, FrameOrder(order=tuple(range(7))))


def test_clips_follow_the_first_of_their_group():
    model, inputs, _ = made("latte", clips=4)
    for kind in ("spatial", "temporal", "cross"):
        same = FromFirst(what="maps", words=(1,))
        ours, plain = (kept(model, inputs, f"{kind} 0", "maps", *each) for each in ([same], []))
        rows = len(plain) // 4
        first, second = ours.unflatten(0, (2, 2, rows)).unbind(1)
        columns = [each for each in range(plain.shape[-1]) if kind != "cross" or each != 1]
        assert torch.equal(second[..., columns], first[..., columns])
        if kind == "cross":
            assert torch.equal(ours[..., 1], plain[..., 1])
    queries = kept(model, inputs, "temporal 0", "queries", FromFirst())
    assert torch.equal(*queries.unflatten(0, (2, 2, -1)).unbind(1))
    with pytest.raises(AttimeError, match="multiple of 3 clips"):
        called_under(model, inputs, FromFirst(clips=3))


@pytest.mark.parametrize("name", ["latte", "cogvideox", "sd3"])
def test_perturbed_heads_are_maps_on_the_way_to_the_identity(name):
    model, inputs = MODELS[name].made()
    site = next(each for each in sites(model) if each.kind in ("spatial", "joint"))
    maps, values, layouts = kept(model, inputs, site, "maps"), kept(model, inputs, site, "values"), []
    kept(model, inputs, site, lambda call: (layouts.append(call.layout), call.q)[1])
    ours = kept(model, inputs, site, "outputs", PerturbedHeads(chosen=((site.name, 1),), strength=0.3))
    frames = slice(layouts[0].start, layouts[0].stop)
    eye = torch.eye(maps.shape[-1])
    maps[:, 1, frames] = 0.7 * maps[:, 1, frames] + 0.3 * eye[frames]
    torch.testing.assert_close(ours, maps @ values)
    with pytest.raises(AttimeError, match="has heads 0 to"):
        called_under(model, inputs, PerturbedHeads(chosen=((site.name, 9),)))


def test_guidance_is_the_plain_run_and_its_distance_from_the_worse_one():
    model, inputs = MODELS["latte"].made()
    control = PerturbedHeads(strength=0.5)
    plain, worse = called(model, inputs), called_under(model, inputs, control)
    with guide(model, control, scale=2.0), watch(model, where="spatial 0") as seen:
        torch.testing.assert_close(called(model, inputs), plain + 2 * (plain - worse))
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs, return_dict=False)[0], plain + 2 * (plain - worse))
    assert [record.step for record in seen] == [0, 0, 0, 0]
    for still in (guide(model, control, scale=0.0), guide(model, PerturbedHeads(strength=0.0))):
        with still:
            assert torch.equal(called(model, inputs), plain)
    assert torch.equal(called(model, inputs), plain)
    with pytest.raises(AttimeError, match="guide needs controls"):
        guide(model, scale=1.0)


def test_hunt_finds_what_does_well_together():
    heads = [(name, head) for name in "ab" for head in range(3)]
    worth = {("a", 1): 3.0, ("b", 2): 2.0, ("b", 0): 1.0}
    assert hunt(lambda chosen: sum(worth.get(each, 0) for each in chosen), heads, rounds=2) == (("a", 1), ("b", 2))
    assert hunt(lambda chosen: -len({name for name, _ in chosen}), heads, rounds=2) == (("a", 0), ("a", 1))
    with pytest.raises(AttimeError, match="hunt needs"):
        hunt(len, heads, rounds=4, keep=2)


@pytest.mark.parametrize("name", ["latte", "unet"])
def test_one_window_is_all_and_four_are_four_frames(name):
    model, inputs = MODELS[name].made()
    plain = kept(model, inputs, "spatial 0", "outputs")
    torch.testing.assert_close(kept(model, inputs, "spatial 0", "outputs", Windows(windows=(1, 1))), plain)
    assert torch.equal(kept(model, inputs, "spatial 0", "outputs", Windows(windows=(1, 1), shifts=(0.0,))), plain)
    q, k, v = (kept(model, inputs, "spatial 0", each) for each in ("queries", "keys", "values"))
    ours = kept(model, inputs, "spatial 0", "outputs", Windows(shifts=(0.5,)))
    side = round(q.shape[2] ** 0.5)
    line, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    half = side // 2
    window = (((line - half // 2) % side) // half * 2 + ((column - half // 2) % side) // half).flatten()
    same = window[:, None] == window
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v, attn_mask=same))
    with pytest.raises(AttimeError, match="cannot cut"):
        called_under(model, inputs, Windows(windows=(3, 1)), where="spatial 0")


def test_deep_blocks_see_smaller_pictures_and_the_model_comes_back():
    model, inputs = MODELS["unet"].made()
    before, sizes = called(model, inputs), list[int]()
    hook = model.mid_block.register_forward_hook(lambda module, args, out: sizes.append(out.shape[-1]))
    with coarse(model, steps=range(1)):
        assert called(model, inputs).shape == before.shape
        assert torch.equal(
            called(model, inputs | {"timestep": torch.tensor([3])}),
            called(model, inputs | {"timestep": torch.tensor([3])}),
        )
    with coarse(model, steps=range(0)):
        assert torch.equal(called(model, inputs), before)
    hook.remove()
    assert sizes == [2, 4, 4, 4]
    assert torch.equal(called(model, inputs), before)
    with pytest.raises(AttimeError, match="0 to 0 in this U-Net"):
        coarse(model, block=1)
    with pytest.raises(AttimeError, match="needs a U-Net"):
        coarse(MODELS["latte"].made()[0])


def test_frames_that_see_all_of_the_subject_see_the_whole_clip():
    model, inputs, frames = made("latte")
    where = [site for site in sites(model) if site.kind in ("spatial", "cross")]
    site = [each for each in where if each.kind == "spatial"][1]
    control = SubjectKeys(words=(0,), share=1.0)
    with (
        steer(model, control, where=where),
        watch(model, where=site, keep="queries") as q,
        watch(model, where=site, keep="keys") as k,
        watch(model, where=site, keep="values") as v,
        watch(model, where=site, keep="outputs") as seen,
    ):
        called(model, inputs)
    places = q.records[0].value.shape[2]
    assert k.records[0].value.shape[2] == frames * places
    keys, values = (each.records[0].value[:, :, :places].transpose(0, 1).flatten(1, 2) for each in (k, v))
    wanted = F.scaled_dot_product_attention(q.records[0].value.transpose(0, 1).flatten(1, 2), keys, values)
    torch.testing.assert_close(seen.records[0].value.transpose(0, 1).flatten(1, 2), wanted)


def test_joint_attention_is_given_the_subject_of_the_call_before():
    model, inputs = MODELS["wan"].made()
    lengths = []
    with (
        steer(model, SubjectKeys(words=(0,), share=0.5)),
        watch(model, where="joint 1", keep=lambda call: call.k) as seen,
    ):
        for when in (9, 5):
            called(model, inputs | {"timestep": torch.tensor([when])})
    lengths = [record.value.shape[2] for record in seen]
    assert lengths[1] == lengths[0] * 3 // 2


def test_a_queue_that_knows_the_clip_hands_it_out():
    torch.manual_seed(0)
    clip, levels = torch.randn(1, 2, 1, 4, 4), [0.25, 0.5, 0.75, 1.0]

    def draw():
        return torch.randn(1, 2, 1, 4, 4)

    seen = []

    def predict(now, above):
        seen.append((now.shape[2], above.tolist()))
        return clip.expand(-1, -1, now.shape[2], -1, -1)

    queue = [(1 - level) * clip + level * draw() for level in levels]
    made = frame_queue(predict, queue, levels, window=2, draw=draw)
    for _ in range(6):
        torch.testing.assert_close(next(made), clip)
    assert seen[:3] == [(2, [0.25, 0.5]), (2, [0.5, 0.75]), (2, [0.75, 1.0])]
    with pytest.raises(AttimeError, match="rising"):
        next(frame_queue(predict, queue, levels[::-1], window=2, draw=draw))
    with pytest.raises(AttimeError, match="a window and any number of halves"):
        next(frame_queue(predict, queue, levels, window=5, draw=draw))


def test_a_tail_has_slow_waves_of_what_is_before_it():
    torch.manual_seed(0)
    last, noise = torch.randn(2, 1, 3, 2, 8, 8)
    assert torch.equal(coherent_tail(last, noise, cutoff=0), noise)
    torch.testing.assert_close(coherent_tail(last, noise, cutoff=1e4), last)
    ours = coherent_tail(last, noise)
    torch.testing.assert_close(ours.mean((-1, -2)), last.mean((-1, -2)))
    torch.testing.assert_close(coherent_tail(last, last), last)


def test_a_pull_lowers_the_distance_from_what_has_been():
    torch.manual_seed(0)
    queue = [torch.full((1, 1, 1, 2, 2), float(value)) for value in (0, 0, 4, 4)]

    def first(pull):
        made = frame_queue(
            lambda now, _: now,
            queue,
            [0.25, 0.5, 0.75, 1.0],
            window=4,
            draw=lambda: torch.full((1, 1, 1, 2, 2), 4.0),
            features=lambda clip: clip.mean((1, 3, 4)),
            pull=pull,
        )
        return [float(next(made).mean()) for _ in range(4)]

    assert first(0.0) == [0, 0, 4, 4]
    assert first(0.1)[2] < 4
