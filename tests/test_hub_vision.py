"""attach() under vision-language models, tiny and from configuration: exact, padded, in chunks, in turns, side by side."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from attime.hub import attach
from attime.memory import chain
from attime.memory.evict import Evict, KeyNorm, ObservedWindow, PerHead, SinkWindow
from attime.memory.place import Contiguous

IMAGE, VIDEO, BEGIN, END, PAD = 60, 61, 62, 63, 59
TEXT: dict[str, Any] = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, pad_token_id=PAD, bos_token_id=58, eos_token_id=57,
)  # fmt: skip
WINDOW = SinkWindow(sinks=2, window=30, every=8)
POLICIES = {
    "window": chain(WINDOW),
    "contiguous": chain(WINDOW, Contiguous()),
    "observed": chain(Evict(score=ObservedWindow(window=6), budget=32, sinks=2, recent=6, every=8), Contiguous()),
    "heads": chain(Evict(score=KeyNorm(), budget=PerHead(heads=((0, 1),), others=24, entries=32), recent=6, every=8)),
}
LENGTH = {"qwen": 16 + 8 + 36, "llava": 17 + 36 + 24}
SHORT = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, suppress_tokens=list(range(57, 64)))


def qwen(section: tuple[int, ...] = (2, 1, 1)) -> Any:
    torch.manual_seed(0)
    rope = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": list(section)}
    vision = dict(
        depth=1, hidden_size=32, intermediate_size=48, num_heads=4, patch_size=4, spatial_merge_size=2,
        temporal_patch_size=2, window_size=16, fullatt_block_indexes=[0], out_hidden_size=32,
    )  # fmt: skip
    marks: dict[str, Any] = dict(
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=BEGIN, vision_end_token_id=END
    )
    config = transformers.Qwen2_5_VLConfig(text_config=TEXT | dict(rope_parameters=rope), vision_config=vision, **marks)
    return transformers.Qwen2_5_VLForConditionalGeneration(config).eval()


def llava() -> Any:
    torch.manual_seed(0)
    vision = transformers.SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, patch_size=4, image_size=16, num_hidden_layers=1, num_attention_heads=4,
        vision_use_head=False,
    )  # fmt: skip
    config = transformers.LlavaOnevisionConfig(
        text_config=transformers.Qwen2Config(**TEXT), vision_config=vision, image_token_index=IMAGE,
        video_token_index=VIDEO, image_grid_pinpoints=[[16, 16]],
    )  # fmt: skip
    return transformers.LlavaOnevisionForConditionalGeneration(config).eval()


@pytest.fixture(scope="module", params=LENGTH)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    return llava() if name == "llava" else qwen()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def watched(name: str, rows: int = 2, *, seed: int = 1, frames: int = 4) -> dict[str, Tensor]:
    """Rows of words, a video, words, an image, words, as each class reads them."""
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> Tensor:
        return torch.randint(0, 57, (rows, count), generator=generator)

    def sign(number: int, count: int) -> Tensor:
        return torch.full((rows, count), number)

    def seen(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    if name == "llava":
        ids = torch.cat([words(5), sign(VIDEO, 4 * frames + 1), words(7), sign(IMAGE, 36), words(12)], dim=1)
        pixels = {"pixel_values_videos": seen(rows, frames, 3, 16, 16), "pixel_values": seen(rows, 2, 3, 16, 16)}
        return pixels | dict(
            input_ids=ids, attention_mask=torch.ones_like(ids), image_sizes=torch.tensor([[16, 16]] * rows)
        )
    clip = [sign(BEGIN, 1), sign(VIDEO, 4 * frames), sign(END, 1)]
    image = [sign(BEGIN, 1), sign(IMAGE, 8), sign(END, 1)]
    ids = torch.cat([words(5), *clip, words(7), *image, words(20)], dim=1)
    return dict(
        input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=(ids == IMAGE).int() + 2 * (ids == VIDEO),
        pixel_values_videos=seen(rows * frames * 16, 96), video_grid_thw=torch.tensor([[frames, 4, 4]] * rows),
        pixel_values=seen(rows * 32, 96), image_grid_thw=torch.tensor([[1, 4, 8]] * rows),
    )  # fmt: skip


def embedded(model: Any, name: str) -> dict[str, Tensor]:
    """The same rows as vectors with their positions: what a stream of frames feeds piece by piece."""
    inputs, caught = watched(name), dict[str, Tensor]()
    text = model.get_decoder()
    hook = text.register_forward_pre_hook(lambda module, args, kwargs: caught.update(kwargs), with_kwargs=True)
    model(**inputs)
    hook.remove()
    return {key: caught[key] for key in ("inputs_embeds", "position_ids") if caught.get(key) is not None}


def in_pieces(model: Any, whole: dict[str, Tensor], cache: Any, cuts: int) -> Tensor:
    made, length = [], whole["inputs_embeds"].shape[1]
    for start in range(0, length, cuts):
        part = {"inputs_embeds": whole["inputs_embeds"][:, start : start + cuts]}
        if "position_ids" in whole:
            part["position_ids"] = whole["position_ids"][..., start : start + cuts]
        made.append(model(**part, past_key_values=cache).logits)
    return torch.cat(made, dim=1)


def after(inputs: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    """The next turn: all ids so far and new words; what was seen is in the memory."""
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_without_a_policy_nothing_changes_and_afterwards_nothing_has_changed(model: Any, name: str) -> None:
    inputs = watched(name)
    before = model(**inputs).logits
    with attach(model) as attached:
        cache = attached.cache()
        torch.testing.assert_close(model(**inputs, past_key_values=cache).logits, before, rtol=0, atol=2e-6)
        assert cache.get_seq_length() == LENGTH[name]
    assert torch.equal(model(**inputs).logits, before), "bit for bit"
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert "_prepare_position_ids_for_generation" not in vars(model)


@pytest.mark.parametrize(
    "how", [dict(do_sample=False), dict(do_sample=True, top_k=5), dict(num_beams=3, do_sample=False)], ids=str
)
def test_generate_says_what_the_model_says(model: Any, name: str, how: dict[str, Any]) -> None:
    inputs = watched(name)
    torch.manual_seed(0)
    plain = model.generate(**inputs, **SHORT | how)
    torch.manual_seed(0)
    with attach(model):
        assert torch.equal(model.generate(**inputs, **SHORT | how), plain)
    torch.manual_seed(0)
    with attach(model, POLICIES["contiguous"]):
        assert model.generate(**inputs, **SHORT | how).shape == plain.shape


@pytest.mark.parametrize("policy", POLICIES)
def test_one_pass_is_pieces_is_single_steps_in_bounded_memory(model: Any, name: str, policy: str) -> None:
    whole = embedded(model, name)
    with attach(model, POLICIES[policy]) as attached:
        cache = attached.cache()
        once = in_pieces(model, whole, cache, 1000)
        torch.testing.assert_close(model(**watched(name)).logits, once, rtol=0, atol=1e-5)
        assert max(line.kept for line in cache.ledger()) <= 32
        for cuts in (1, 37) if policy == "contiguous" else (19,):
            torch.testing.assert_close(in_pieces(model, whole, attached.cache(), cuts), once, rtol=0, atol=1e-5)


def test_a_gap_in_the_memory_is_closed_along_the_positions_of_pictures(model: Any, name: str) -> None:
    with attach(model, POLICIES["contiguous"]) as attached:
        cache = attached.cache()
        model(**watched(name), past_key_values=cache)
    bank = cache.memory[0].pasts[0][1].banks[0]
    when, shift = bank.when.now[0], bank.shift
    assert shift is not None
    if name == "llava":
        assert bank.place is None
        assert shift[0, 0] == when[2] - 2, "the sinks end where what is kept begins"
    else:
        assert bank.place is not None
        low, high = bank.place.now[0].unbind(-1)
        assert shift[0, 0] == low[2] - high[1] - 1
        assert int(high[-1]) < int(when[-1]), "a clip takes fewer positions than tokens"


def test_padding_is_as_if_it_were_not_there(model: Any, name: str) -> None:
    inputs, cut = watched(name), 5  # the second row lacks its first words
    short = inputs["input_ids"].clone()
    short[1] = torch.cat([torch.full((cut,), PAD), inputs["input_ids"][1, cut:]])
    mask = (short != PAD).long()
    if name == "llava":
        row = {key: value[1:] for key, value in inputs.items()}
    else:
        row = {key: value[1:] for key, value in inputs.items() if not key.startswith("pixel")}
        row |= {key: inputs[key].chunk(2)[1] for key in ("pixel_values", "pixel_values_videos")}
    for key in ("input_ids", "attention_mask", "mm_token_type_ids"):
        if key in row:
            row[key] = row[key][:, cut:]
    padded = inputs | dict(input_ids=short, attention_mask=mask)
    for policy in (chain(), POLICIES["contiguous"]):
        with attach(model, policy):
            together = model(**padded).logits
            torch.testing.assert_close(together[1:, cut:], model(**row).logits, rtol=0, atol=1e-5)
            said, own = model.generate(**padded, **SHORT), model.generate(**row, **SHORT)
            assert torch.equal(said[1:, -6:], own[:, -6:])


@pytest.mark.parametrize("policy", ["none", "contiguous", "observed"])
def test_a_second_turn_feeds_the_new_tokens(model: Any, name: str, policy: str) -> None:
    inputs, memory, fed = watched(name, rows=1), POLICIES.get(policy, chain()), list[int]()
    more = torch.randint(0, 57, (1, 9), generator=torch.Generator().manual_seed(5))
    with attach(model, memory) as attached:
        cache = attached.cache()
        first = model.generate(**inputs, past_key_values=cache, **SHORT)
        ids = torch.cat([first, more], dim=1)
        hook = model.register_forward_pre_hook(lambda m, a, kw: fed.append(kw["input_ids"].shape[1]), with_kwargs=True)
        again = model.generate(**after(inputs, ids), past_key_values=cache, **SHORT)
        hook.remove()
        anew = attached.cache()
        fresh = model.generate(**inputs | grown(inputs, ids), past_key_values=anew, **SHORT)
    assert fed[0] == 10, "nine new tokens, and the last one of turn one"
    if not turns_agree(model, inputs, more):
        pytest.skip("this version of transformers places the second turn elsewhere, with its own cache as well")
    assert torch.equal(again, fresh)
    for layer, other in zip(cache.memory, anew.memory, strict=True):
        for bank, same in zip(layer.pasts[0][1].banks, other.pasts[0][1].banks, strict=True):
            assert torch.equal(bank.when.now, same.when.now)
            torch.testing.assert_close(bank.keys(), same.keys())


def turns_agree(model: Any, inputs: dict[str, Tensor], more: Tensor) -> bool:
    """Whether two turns leave the keys of a single one in transformers' own cache."""
    cache, anew = transformers.DynamicCache(), transformers.DynamicCache()
    ids = torch.cat([model.generate(**inputs, past_key_values=cache, **SHORT), more], dim=1)
    model.generate(**after(inputs, ids), past_key_values=cache, **SHORT)
    model.generate(**inputs | grown(inputs, ids), past_key_values=anew, **SHORT)
    first: Any = cache.layers[0]
    other: Any = anew.layers[0]
    return bool((first.keys - other.keys).abs().max() < 1e-4)


def grown(inputs: dict[str, Tensor], ids: Tensor) -> dict[str, Tensor]:
    made = after(inputs, ids)
    if "mm_token_type_ids" in inputs:
        made["mm_token_type_ids"] = (ids == IMAGE).int() + 2 * (ids == VIDEO)
    return made


def test_conversations_on_one_model_do_not_meet(model: Any, name: str) -> None:
    one, two = watched(name, rows=1), watched(name, rows=1, seed=7, frames=6)
    more = torch.randint(0, 57, (1, 9), generator=torch.Generator().manual_seed(5))
    with attach(model, POLICIES["contiguous"]) as attached:

        def turns(*caches: Any) -> list[Tensor]:
            said = [
                model.generate(**clip, past_key_values=cache, **SHORT)
                for clip, cache in zip((one, two), caches, strict=False)
            ]
            return [
                model.generate(**after(clip, torch.cat([each, more], dim=1)), past_key_values=cache, **SHORT)
                for clip, cache, each in zip((one, two), caches, said, strict=False)
            ]

        [alone] = turns(attached.cache())
        together = turns(attached.cache(), attached.cache())
        assert torch.equal(together[0], alone)
        caches = [attached.cache(), attached.cache()]
        for clip, cache in zip((one, two), caches, strict=True):
            model(**clip, past_key_values=cache)
        step = [model(input_ids=more, past_key_values=cache).logits for cache in caches]
        cache = attached.cache()
        model(**one, past_key_values=cache)
        branch, twice = cache.copy(), cache.copy()
        assert torch.equal(model(input_ids=more, past_key_values=cache).logits, step[0])
        model(**two)
        assert torch.equal(model(input_ids=more, past_key_values=branch).logits, step[0])
        twice.batch_repeat_interleave(2)
        torch.testing.assert_close(
            model(input_ids=more.repeat(2, 1), past_key_values=twice).logits[1:], step[0], rtol=0, atol=1e-6
        )


def test_any_number_of_sections_of_positions() -> None:
    model = qwen((1, 1, 1, 1))
    whole, plain = embedded(model, "qwen"), model(**watched("qwen")).logits
    with attach(model):
        torch.testing.assert_close(model(**watched("qwen")).logits, plain, rtol=0, atol=2e-6)
    with attach(model, POLICIES["contiguous"]) as attached:
        once = model(**watched("qwen")).logits
        torch.testing.assert_close(in_pieces(model, whole, attached.cache(), 13), once, rtol=0, atol=1e-5)
    assert not torch.allclose(once, plain)
