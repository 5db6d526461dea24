"""Watching and steering at sites: the model as it was, what is seen is what happened, and clear sentences."""

import dataclasses
import threading
from dataclasses import dataclass
from typing import Any, cast, final

import pytest
import torch
import transformers
from torch import Tensor, nn

from attime.control import Call, Control, Layout, Traits
from attime.errors import AttimeError
from attime.hub import attach, sites, steer, watch
from attime.site import kind, layer
from tiny_models import MODELS


@final
@dataclass(frozen=True, kw_only=True)
class Flat(Control):
    """Maps on the way to uniform ones, over the keys that are seen."""

    def maps(self, maps: Tensor, call: Call) -> Tensor:
        seen = (maps > 0).to(maps.dtype)
        return maps + self.strength * (seen / seen.sum(-1, keepdim=True) - maps)

    @classmethod
    def examples(cls):
        return [cls(), cls(strength=0.5)]


@final
@dataclass(frozen=True, kw_only=True)
class Louder(Control):
    """Outputs times 1 + strength."""

    traits = Traits(kinds=("temporal",))

    def outputs(self, out: Tensor, call: Call) -> Tensor:
        return out * (1 + self.strength)

    @classmethod
    def examples(cls):
        return [cls(), cls(strength=0.5)]


@torch.no_grad()
def called(model, inputs):
    """The first tensor that the model makes."""
    made = model(**inputs)
    for name in ("logits", "sample", "last_hidden_state", "logits_per_image"):
        if getattr(made, name, None) is not None:
            return getattr(made, name).clone()
    raise AssertionError(made.keys())


def modes():
    """How many function modes this thread has."""
    return torch._C._len_torch_function_stack()  # pyright: ignore


def hooked(model):
    """How many hooks its modules have."""
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_a_watched_model_says_the_same_and_is_left_as_it_was(name):
    model, inputs = MODELS[name].made()
    before, hooks = called(model, inputs), hooked(model)
    with watch(model) as seen:
        assert torch.equal(called(model, inputs), before)
    assert {record.site.name for record in seen} == {site.name for site in sites(model)}
    for record in seen:
        torch.testing.assert_close(record.value.sum(-1), torch.ones(record.value.shape[:-1]))
        assert record.value.shape[1] == record.site.heads
    count = len(seen)
    assert torch.equal(called(model, inputs), before)
    assert len(seen) == count
    assert hooked(model) == hooks


@pytest.mark.parametrize("name", MODELS)
def test_steering_changes_what_it_should_and_nothing_afterwards(name):
    model, inputs = MODELS[name].made()
    before = called(model, inputs)
    with steer(model, Flat(strength=0.0)):
        assert torch.equal(called(model, inputs), before)
    with steer(model, Flat()), watch(model) as seen:
        assert not torch.equal(called(model, inputs), before)
    for record in seen:
        there = record.value > 0
        assert torch.allclose(record.value[there], (1 / there.sum(-1, keepdim=True)).expand_as(record.value)[there])
    assert torch.equal(called(model, inputs), before)


@pytest.mark.parametrize("name", ["llama", "whisper", "clip"])
def test_maps_are_those_of_the_model_itself(name):
    model, inputs = MODELS[name].made()
    with watch(model, where="self") as seen:
        called(model, inputs)
    model.set_attn_implementation("eager")
    made = model(**inputs, output_attentions=True)
    own = {
        "llama": lambda: made.attentions,
        "whisper": lambda: (*made.encoder_attentions, *made.decoder_attentions),
        "clip": lambda: made.text_model_output.attentions,
    }[name]()
    for record, wanted in zip(seen, own, strict=True):
        torch.testing.assert_close(record.value, wanted)


def test_a_model_set_to_eager_is_watched_and_stays_eager():
    model, inputs = MODELS["llava-onevision"].made()
    model.set_attn_implementation("eager")
    with watch(model, where="vision") as seen:
        called(model, inputs)
    assert len(seen) == 2
    assert {part.config._attn_implementation for part in (model, model.model.vision_tower)} == {"eager"}


def test_a_control_acts_at_its_sites_alone():
    model, inputs = MODELS["animatediff"].made()
    with steer(model, Louder(), where=layer(0)), watch(model, where="temporal 0", keep="outputs") as loud:
        called(model, inputs)
    with watch(model, where="temporal", keep="outputs") as plain:
        called(model, inputs)
    assert len(loud) == 1 < len(plain) == 14
    torch.testing.assert_close(loud.records[0].value, 2 * plain.records[0].value)


def test_several_controls_act_in_order_and_what_is_watched_is_what_came_of_it():
    model, inputs = MODELS["latte"].made()
    with watch(model, where="temporal", keep="outputs") as plain:
        called(model, inputs)
    with (
        steer(model, Louder(strength=1.0)),
        steer(model, Louder(strength=0.5)),
        watch(model, where="temporal", keep="outputs") as seen,
    ):
        called(model, inputs)
    torch.testing.assert_close(seen.records[0].value, 3 * plain.records[0].value)
    with watch(model, where="temporal", keep="outputs") as again, steer(model, Louder(), Louder(strength=0.5)):
        called(model, inputs)
    torch.testing.assert_close(again.records[0].value, seen.records[0].value)


@pytest.mark.parametrize(
    ("name", "kinds", "layout"),
    [
        ("cogvideox", "joint", Layout(frames=3, places=16, start=3)),
        ("wan", "joint", Layout(frames=3, places=16)),
        ("sd3", "joint", Layout(frames=1, places=16)),
        ("latte", "temporal", Layout(frames=5, places=1)),
        ("animatediff", "temporal", Layout(frames=5, places=1)),
    ],
)
def test_a_frame_that_changes_is_where_the_layout_says(name, kinds, layout):
    model, inputs = MODELS[name].made()
    found = []
    with watch(model, where=f"{kinds} 0", keep=lambda call: (found.append(call.layout), call.q)[1]) as seen:
        called(model, inputs)
        key = "hidden_states" if "hidden_states" in inputs else "sample"
        changed = inputs[key].clone()
        last = changed.select(1 if name == "cogvideox" else 2, -1) if changed.ndim == 5 else changed
        last += 1.0
        called(model, inputs | {key: changed})
    assert found[0] == layout
    if kinds == "joint":
        one, two = (record.value for record in seen)
        moved = (one != two).any(-1).any(1)[0].nonzero()[:, 0]
        last = range(layout.stop - layout.places, layout.stop)
        assert set(moved.tolist()) == set(last)


def test_steps_follow_time_steps_and_tokens():
    model, inputs = MODELS["latte"].made()
    with watch(model, where="temporal 0") as seen:
        for when in (9, 9, 5, 1):
            called(model, inputs | {"timestep": torch.tensor([when])})
    assert [record.step for record in seen] == [0, 0, 1, 2]
    with steer(model, Louder(steps=range(1, 2))), watch(model, where="temporal 0", keep="outputs") as some:
        for when in (9, 5, 1):
            called(model, inputs | {"timestep": torch.tensor([when])})
    with watch(model, where="temporal 0", keep="outputs") as none:
        for when in (9, 5, 1):
            called(model, inputs | {"timestep": torch.tensor([when])})
    assert [
        torch.equal(one, two) for one, two in zip((r.value for r in some), (r.value for r in none), strict=True)
    ] == [True, False, True]
    llama, _ = MODELS["llama"].made()
    with watch(llama, where=layer(1), keep=lambda call: torch.tensor(call.k.shape[2])) as lengths:
        llama.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
    assert [(record.step, int(record.value)) for record in lengths] == [(0, 3), (1, 4), (2, 5), (3, 6)]


def test_visual_tokens_are_known_in_prefill_and_in_decoding():
    model, inputs = MODELS["qwen2.5-vl"].made()
    with watch(
        model, where="language 0", keep=lambda call: None if call.visual is None else call.visual.sum(1)
    ) as seen:
        model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert [record.value.tolist() for record in seen] == [[8]] * 3


def test_gradients_reach_the_maps():
    model, inputs = MODELS["llama"].made()
    with watch(model, where=layer(0), detach=False) as seen:
        loss = model(**inputs, labels=inputs["input_ids"]).loss
    (gradient,) = torch.autograd.grad(loss, [seen.records[0].value])
    assert gradient.abs().max() > 0


def test_an_exception_inside_leaves_the_model_as_it_was():
    model, inputs = MODELS["wan"].made()
    before = called(model, inputs)
    with pytest.raises(RuntimeError), steer(model, Flat()):
        called(model, inputs | {"encoder_hidden_states": torch.randn(1, 3, 9)})
    assert torch.equal(called(model, inputs), before)
    assert not hooked(model)


def test_memory_is_bounded_and_said():
    model, inputs = MODELS["llama"].made()
    with pytest.raises(AttimeError, match="would hold more than most_bytes=100"), watch(model, most_bytes=100):
        called(model, inputs)
    called(model, inputs)


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (lambda model: watch(model, where="temporal"), "selects none of the 2 sites"),
        (lambda model: watch(model, keep="colours"), "watch keeps maps, scores"),
        (lambda model: steer(model, Louder()), "steers temporal attention; LlamaForCausalLM has only language self"),
        (lambda model: steer(model, cast(Any, "loud")), "steer needs controls such as"),
        (lambda model: steer(nn.Linear(2, 2), Flat()), "has no module whose class ends with Attention"),
    ],
)
def test_mistakes_are_told_in_one_sentence(begin, said):
    model, _ = MODELS["llama"].made()
    with pytest.raises(AttimeError, match=said) as error:
        begin(model)
    assert "\n" not in str(error.value)


def test_a_memory_under_the_model_hides_attention_and_says_so():
    model, inputs = MODELS["llama"].made()
    with attach(model), pytest.raises(AttimeError, match="hides it"), watch(model):
        called(model, inputs)
    called(model, inputs)


def test_who_cannot_be_watched_is_left_as_it_was():
    model, inputs = MODELS["llava-onevision"].made()
    model.model.vision_tower.config._attn_implementation = "eager"
    model.model.language_model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(AttimeError, match="hides it"), watch(model):
        called(model, inputs)
    assert model.model.vision_tower.config._attn_implementation == "eager"
    model.model.language_model.config._attn_implementation = "sdpa"
    with watch(model) as seen:
        called(model, inputs)
    assert len(seen) == 4


def test_a_model_compiled_before_is_watched():
    model, inputs = MODELS["wan"].made()
    before = called(model, inputs)
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(called(compiled, inputs), before)
    with steer(model, Flat(), where=kind("joint")), watch(model, where=kind("joint")) as seen:
        steered = called(compiled, inputs)
    assert len(seen) == 2
    assert not torch.allclose(steered, before)
    torch.testing.assert_close(called(compiled, inputs), before)


def test_what_a_function_keeps_is_no_view_of_a_larger_map():
    model, _ = MODELS["llama"].made()
    ids = torch.randint(4, 60, (1, 50))
    with watch(model, keep=lambda call: call.maps[:, :, -1]) as seen:
        called(model, {"input_ids": ids})
    assert seen.nbytes == sum(record.value.untyped_storage().nbytes() for record in seen)


def test_a_map_that_is_too_large_is_refused_before_it_is_made(monkeypatch):
    model, inputs = MODELS["llama"].made()
    monkeypatch.setattr(Call, "maps", property(lambda call: pytest.fail("the map was made")))
    with pytest.raises(AttimeError, match="most_bytes=100,"), watch(model, most_bytes=100):
        called(model, inputs)


def test_blocks_may_end_in_any_order_and_are_not_entered_twice():
    (one, mine), (two, other) = MODELS["llama"].made(), MODELS["vit"].made()
    before, first, second = called(two, other), watch(one), watch(two)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    torch.testing.assert_close(called(two, other), before)
    assert len(second) == 2
    with pytest.raises(AttimeError, match="is open already"), second:
        pass
    second.__exit__(None, None, None)
    called(one, mine)
    assert not len(first)
    assert modes() == 0


def test_other_threads_are_watched_and_steered_too():
    model, inputs = MODELS["llama"].made()
    made = []
    thread = threading.Thread(target=lambda: made.append(called(model, inputs)))
    with steer(model, Flat(), where="language"), watch(model) as seen:
        thread.start()
        thread.join()
        here = called(model, inputs)
    assert len(seen) == 4
    assert torch.equal(made[0], here)
    with watch(model) as alone:
        thread = threading.Thread(target=lambda: made.append(modes()))
        thread.start()
        thread.join()
    assert made[1] == 0
    assert not len(alone)


def test_a_second_run_in_the_same_block_counts_its_steps_anew():
    model, inputs = MODELS["animatediff"].made()
    with watch(model, where="temporal", keep=lambda call: torch.zeros(1)) as seen:
        for times in ((900, 600, 300), (950, 500, 20), (950, 500, 20)):
            for time in times:
                called(model, inputs | {"timestep": torch.tensor([time])})
    steps = [record.step for record in seen if record.site.name == seen.sites[0].name]
    assert steps == [0, 1, 2] * 3
    llama, _ = MODELS["llama"].made()
    with watch(llama) as seen:
        for _ in range(2):
            llama.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert [record.step for record in seen if record.site.layer == 0] == [0, 1, 2] * 2


def test_attention_that_squeezes_its_logits_is_refused():
    config = transformers.Gemma2Config(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    model = transformers.Gemma2ForCausalLM(config)
    model.set_attn_implementation("eager")
    with pytest.raises(AttimeError, match="squeezes its logits"), watch(model):
        pass


def test_pictures_of_flux_are_one_frame_behind_the_words():
    model, inputs = MODELS["flux"].made()
    with watch(model, keep=lambda call: torch.tensor(dataclasses.astuple(cast(Layout, call.layout)))) as seen:
        called(model, inputs)
    assert [record.value.tolist() for record in seen] == [[1, 12, 5, 1, 4]] * 2


def test_a_static_cache_has_no_pictures_in_its_spare_room():
    model, inputs = MODELS["qwen2.5-vl"].made()
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with watch(model, where="language", keep=lambda call: cast(Tensor, call.visual)[:, :13].clone()) as seen:
        model.generate(**inputs, cache_implementation="static", **options)
    assert len(seen) == 6
    assert all(record.value.sum() == 8 for record in seen)
