"""What a forward under a memory refuses, and that nothing goes on from a forward that was cut short."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from attime.errors import AttimeError
from attime.hub import attach
from attime.memory import Policy, chain
from attime.memory.evict import Evict, KeyNorm, SinkWindow
from attime.memory.place import Contiguous
from attime.memory.retrieve import Retrieve

SIZES: dict[str, Any] = dict(
    vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, eos_token_id=1
)
GROUPED: dict[str, Any] = SIZES | dict(num_key_value_heads=2)
WINDOW = SinkWindow(sinks=2, window=14, every=4)
BLOCKS = Retrieve(sinks=2, window=14, block=4, blocks=3, every=4)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def llama(**options: Any) -> Any:
    sizes: dict[str, Any] = GROUPED | options
    return LlamaForCausalLM(LlamaConfig(**sizes)).double().eval()


def words(rows: int, length: int) -> torch.Tensor:
    return torch.randint(2, 32, (rows, length))


def in_steps(model: Any, cache: Any, ids: torch.Tensor, size: int = 1) -> torch.Tensor:
    return torch.cat([model(part, past_key_values=cache).logits for part in ids.split(size, dim=1)], dim=1)


@pytest.mark.parametrize("where", ["mlp", "last attention"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_nothing_goes_on_from_a_forward_that_was_cut_short(
    where: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = llama(), words(1, 30)
    layer = model.model.layers[0 if where == "mlp" else 1]
    with attach(model, WINDOW) as attached:
        cache = attached.cache()
        model(ids, past_key_values=cache)
        before = cache.copy()
        part = layer.mlp if where == "mlp" else layer.self_attn.o_proj

        def stop(*_: Any) -> None:
            raise error

        with part.register_forward_pre_hook(stop), pytest.raises(error):
            model(ids[:, :10], past_key_values=cache)
        for again in (cache, cache.copy()):
            with pytest.raises(AttimeError, match="did not come to its end"):
                model(ids[:, :10], past_key_values=again)
        right = model(torch.cat([ids, ids[:, :10]], dim=1)).logits[:, 30:]
        torch.testing.assert_close(model(ids[:, :10], past_key_values=before).logits, right)
        cache.reset()
        torch.testing.assert_close(model(ids, past_key_values=cache).logits, model(ids).logits)


def test_a_forward_that_began_nothing_spoils_nothing() -> None:
    model, ids = llama(), words(2, 20)
    with attach(model, WINDOW) as attached:
        cache, twin = attached.cache(), attached.cache()
        for each in (cache, twin):
            model(ids, past_key_values=each)
        with pytest.raises(AttimeError, match="of 2 rows goes on with 2; got 3"):
            model(words(3, 4), past_key_values=cache)
        with pytest.raises(AttimeError, match="one new token"):
            model(ids[:, :0], past_key_values=cache)
        with pytest.raises(IndexError):
            model(torch.full((2, 4), 99), past_key_values=cache)
        same = (model(ids, past_key_values=each).logits for each in (cache, twin))
        torch.testing.assert_close(*same, rtol=0, atol=0)


def test_what_a_memory_would_misread_is_refused() -> None:
    model, ids = llama(attention_dropout=0.5), words(2, 12)
    whole = torch.ones(12, 12).tril()[None, None].expand(2, 1, -1, -1)
    packed = torch.arange(6).repeat(2)[None].expand(2, -1)
    with attach(model):
        for told, match in (
            (dict(attention_mask=whole), "mask"),
            (dict(attention_mask=whole.bool()), "mask"),
            (dict(attention_mask={"full_attention": whole}), "got a dict"),
            (dict(position_ids=packed), "packed"),
        ):
            with pytest.raises(AttimeError, match=match):
                model(ids, **told)
        model(ids, position_ids=torch.arange(5, 17)[None].expand(2, -1))
        with pytest.raises(AttimeError, match="attention_dropout"):
            model.train()(ids)


def test_a_cache_may_be_given_by_position() -> None:
    model, ids = llama(), words(1, 30)
    with attach(model, WINDOW) as attached:
        cache = attached.cache()
        model(ids[:, :20], None, None, cache)
        assert cache.get_seq_length() == 20
        torch.testing.assert_close(model(ids[:, 20:], None, None, cache).logits, model(ids).logits[:, 20:])


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_keys_are_not_moved_where_frequencies_change_with_length(kind: str) -> None:
    rope: dict[str, Any] = dict(rope_type=kind, rope_theta=1e4, factor=4.0, original_max_position_embeddings=16)
    if kind == "longrope":
        rope |= dict(short_factor=[1.0] * 4, long_factor=[3.0] * 4)
    model = llama(max_position_embeddings=16 if kind == "dynamic" else 64, rope_parameters=rope)
    with pytest.raises(AttimeError, match="does not know"):
        attach(model, chain(WINDOW, Contiguous()))
    with pytest.raises(AttimeError, match="contiguous=False"), attach(model, BLOCKS):
        pass
    with attach(model, WINDOW):
        model(words(1, 40))


@pytest.mark.parametrize("kind", ["neox", "cohere"])
def test_blocks_come_back_where_keys_turn_in_part_or_in_pairs(kind: str) -> None:
    neox = GPTNeoXConfig(**SIZES, rope_parameters=dict(rope_theta=1e4, partial_rotary_factor=0.5, rope_type="default"))
    model: Any = GPTNeoXForCausalLM(neox) if kind == "neox" else CohereForCausalLM(CohereConfig(**SIZES))
    ids = words(2, 48)
    with attach(model.double().eval(), BLOCKS) as attached:
        whole = model(ids).logits
        for size in (1, 7):
            torch.testing.assert_close(in_steps(model, attached.cache(), ids, size), whole)


@pytest.mark.parametrize(
    "policy", [SinkWindow(sinks=2, window=8, every=4), Evict(score=KeyNorm(), budget=10, recent=2, every=4), BLOCKS]
)
def test_a_models_own_window_counts_ages_whatever_is_kept(policy: Policy) -> None:
    config = MistralConfig(**GROUPED, sliding_window=12)
    model, ids = MistralForCausalLM(config).double().eval(), words(1, 60)
    with attach(model, policy) as attached:
        whole = model(ids).logits
        for size in (1, 7):
            torch.testing.assert_close(in_steps(model, attached.cache(), ids, size), whole)
