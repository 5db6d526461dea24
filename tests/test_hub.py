"""attach() on the real classes of transformers, tiny and from configuration: exact, restored, padded, in turns, saved."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from attime.errors import AttimeError
from attime.hub import attach, attending
from attime.memory import Chain, chain
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous

SMALL: dict[str, Any] = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=4096, pad_token_id=63, bos_token_id=62, eos_token_id=61,
)  # fmt: skip
GROUPED: dict[str, Any] = SMALL | dict(num_key_value_heads=2, head_dim=8)
SLIDING: dict[str, Any] = GROUPED | dict(sliding_window=24)
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "mistral": ("MistralForCausalLM", "MistralConfig", SLIDING),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", SMALL | dict(num_key_value_heads=2)),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", GROUPED),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", SLIDING),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", SLIDING),
    "neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SMALL),
}
WINDOW = SinkWindow(sinks=2, window=30, every=8)
POLICIES = {"all": chain(), "window": chain(WINDOW), "contiguous": chain(WINDOW, Contiguous())}
TIME = 90


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    kind, config, sizes = MODELS[request.param]
    torch.manual_seed(0)
    return getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> Chain:
    return POLICIES[request.param]


def ids(rows: int = 2, time: int = TIME) -> Tensor:
    return torch.randint(0, 60, (rows, time), generator=torch.Generator().manual_seed(1))


def in_chunks(model: Any, tokens: Tensor, cache: Any, chunk: int) -> Tensor:
    return torch.cat([model(part, past_key_values=cache).logits for part in tokens.split(chunk, dim=1)], dim=1)


def test_without_a_policy_nothing_changes_and_afterwards_nothing_has_changed(model: Any) -> None:
    before, implementation = model(ids()).logits, model.config._attn_implementation
    greedy = model.generate(ids()[:, :20], max_new_tokens=10, do_sample=False)
    with attach(model):
        torch.testing.assert_close(model(ids()).logits, before, rtol=0, atol=2e-6)
        assert torch.equal(model.generate(ids()[:, :20], max_new_tokens=10, do_sample=False), greedy)
    assert model.config._attn_implementation == implementation
    assert torch.equal(model(ids()).logits, before), "bit for bit"
    assert not model._forward_pre_hooks


def test_one_pass_is_chunks_is_single_steps(model: Any, policy: Chain) -> None:
    with attach(model, policy) as attached:
        whole = model(ids()).logits
        for chunk in (1, 37, 64):
            cache = attached.cache()
            torch.testing.assert_close(in_chunks(model, ids(), cache, chunk), whole, rtol=0, atol=1e-5)
        if policy.policies:
            assert max(line.kept for line in cache.ledger()) <= WINDOW.budget
            assert abs(cache.ledger().nbytes / cache.nbytes - 1) < 0.02, "the ledger is what is held"


def test_padding_is_as_if_it_were_not_there(model: Any, policy: Chain) -> None:
    short, long = ids()[:1, :60], ids()[1:, :65]
    padded = torch.cat([torch.cat([torch.full((1, 5), 63), short], dim=1), long])
    mask = torch.ones_like(padded)
    mask[0, :5] = 0
    with attach(model, policy):
        together = model(padded, attention_mask=mask).logits
        torch.testing.assert_close(together[:1, 5:], model(short).logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(together[1:], model(long).logits, rtol=0, atol=1e-5)
        said = model.generate(padded, attention_mask=mask, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        alone = model.generate(short, max_new_tokens=8, min_new_tokens=8, do_sample=False)
        assert torch.equal(said[:1, 65:], alone[:, 60:])


def test_a_second_turn_feeds_the_new_tokens_and_equals_a_fresh_start(model: Any, policy: Chain) -> None:
    fed: list[int] = []
    with attach(model, policy) as attached:
        cache = attached.cache()
        options = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False)
        first = model.generate(ids()[:1, :50], past_key_values=cache, **options)
        second = torch.cat([first, ids()[:1, 60:75]], dim=1)
        hook = model.register_forward_pre_hook(lambda m, a, kw: fed.append(kw["input_ids"].shape[1]), with_kwargs=True)
        again = model.generate(second, past_key_values=cache, **options)
        hook.remove()
        fresh = model.generate(second, **options)
    assert fed[0] == second.shape[1] - (first.shape[1] - 1), "the last token of turn one has not been fed yet"
    assert torch.equal(again, fresh)


def test_beams_sampling_and_chunked_prefill(model: Any) -> None:
    prompt = ids()[:, :40]
    options: list[dict[str, Any]] = [
        dict(num_beams=3, do_sample=False),
        dict(do_sample=True, top_k=5),
        dict(prefill_chunk_size=16, do_sample=False),
        dict(num_return_sequences=2, do_sample=True),
    ]
    for each in options:
        torch.manual_seed(0)
        plain = model.generate(prompt, max_new_tokens=6, **(each | dict(prefill_chunk_size=None)))
        torch.manual_seed(0)
        with attach(model, SinkWindow(sinks=4, window=200)):
            assert torch.equal(model.generate(prompt, max_new_tokens=6, **each), plain), each


def test_a_saved_memory_goes_on_where_it_was(model: Any, policy: Chain, tmp_path: Path) -> None:
    with attach(model, policy) as attached:
        cache = attached.cache()
        in_chunks(model, ids()[:, :70], cache, 33)
        cache.save(tmp_path / "past.safetensors")
        branch = cache.copy()
        rest = model(ids()[:, 70:], past_key_values=cache).logits
        loaded = attached.load(tmp_path / "past.safetensors")
        assert torch.equal(model(ids()[:, 70:], past_key_values=loaded).logits, rest)
        assert torch.equal(model(ids()[:, 70:], past_key_values=branch).logits, rest)


LLAMA = transformers.LlamaConfig(**GROUPED)


def tiny() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(LLAMA).eval()


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    model, path = tiny(), tmp_path / "past"
    with attach(model, WINDOW) as attached:
        cache = attached.cache()
        model(ids(), past_key_values=cache)
        cache.save(path)
    with attach(model, SinkWindow(sinks=1)) as other, pytest.raises(AttimeError, match="another policy"):
        other.load(path)
    torch.manual_seed(5)
    with (
        attach(transformers.LlamaForCausalLM(LLAMA), WINDOW) as other,
        pytest.raises(AttimeError, match="another model"),
    ):
        other.load(path)
    path.write_bytes(path.read_bytes()[:-900])
    with attach(model, WINDOW) as attached:
        with pytest.raises(AttimeError, match="not a saved memory"):
            attached.load(path)
        with pytest.raises(AttimeError, match="nothing of it is lost"):
            cache.save(tmp_path / "no" / "such" / "folder")
        assert model(ids(), past_key_values=cache).logits.isfinite().all(), "usable afterwards"


def test_mistakes_are_told_in_one_sentence() -> None:
    model = tiny()
    filled = model(ids(), use_cache=True).past_key_values
    with attach(model, WINDOW) as attached:
        with pytest.raises(AttimeError, match="needs a cache made by its"):
            model(ids(), past_key_values=filled)
        cache = attached.cache()
        model(ids(), past_key_values=cache)
        with pytest.raises(AttimeError, match="cannot be cropped"):
            cache.crop(-3)
    with pytest.raises(AttimeError, match="needs a language model"):
        attach(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
    learned = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(AttimeError, match="has none"):
        attach(learned, chain(WINDOW, Contiguous()))
    with pytest.raises(AttimeError, match="chain needs policies"):
        chain("window")
    with pytest.raises(AttimeError, match="window > every"):
        SinkWindow(sinks=4, window=2)


def test_an_exception_inside_leaves_the_model_as_it_was() -> None:
    model = tiny()
    before = model(ids()).logits
    with pytest.raises(RuntimeError, match="inside"), attach(model, WINDOW):
        raise RuntimeError("inside")
    assert torch.equal(model(ids()).logits, before)


def test_two_models_at_once_do_not_meet() -> None:
    one, two = tiny(), tiny()
    plain = two(ids()).logits
    with attach(one, WINDOW), attach(two):
        short = one(ids()).logits
        torch.testing.assert_close(two(ids()).logits, plain, rtol=0, atol=2e-6)
    assert not torch.allclose(short, plain)


def test_a_second_memory_is_refused_and_the_first_one_stays() -> None:
    model, twin = tiny(), None
    plain = model(ids()).logits
    with attach(model, WINDOW):
        short = model(ids()).logits
        for again in (lambda: attach(model), lambda: attending(model, _attend).__enter__()):
            with pytest.raises(AttimeError, match="its own attention"):
                again()
        twin = transformers.LlamaForCausalLM(model.config)
        with pytest.raises(AttimeError, match="same configuration"), attending(twin, _attend):
            pass
        assert torch.equal(model(ids()).logits, short)
    assert torch.equal(model(ids()).logits, plain)
    with attending(model, _attend), pytest.raises(AttimeError, match="its own attention"):
        attach(model)
    one, two = attach(model), attach(twin)
    one.detach()
    two.detach()
    assert torch.equal(model(ids()).logits, plain)


def _attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)


def test_a_cache_in_a_model_without_its_attention_is_told() -> None:
    model = tiny()
    other = copy.deepcopy(model)
    with attach(model, WINDOW) as attached:
        cache = attached.cache()
        other(ids(), past_key_values=cache)
        with pytest.raises(AttimeError, match="never came"):
            other(ids(), past_key_values=cache)
        with pytest.raises(AttimeError, match="call the whole model"):
            model.model(ids())
