"""attach() finds how each layer of a model uses positions, and refuses what a memory would silently change."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from torch import Tensor

from attime.errors import AttimeError
from attime.hub import Attached, attach
from attime.hub.attached import text_part
from attime.hub.probe import FOUND, rotations
from attime.memory import chain
from attime.memory.evict import SinkWindow
from attime.memory.place import Contiguous
from attime.memory.retrieve import Retrieve

SMALL: dict[str, Any] = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=4096, pad_token_id=63, bos_token_id=62, eos_token_id=61,
)  # fmt: skip
GROUPED: dict[str, Any] = SMALL | dict(num_key_value_heads=2, head_dim=8)
YARN = dict(rope_type="yarn", factor=4.0, rope_theta=1e4, original_max_position_embeddings=64)
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "yarn": ("LlamaForCausalLM", "LlamaConfig", GROUPED | dict(rope_parameters=YARN)),
    "phi": ("PhiForCausalLM", "PhiConfig", SMALL),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GROUPED | dict(sliding_window=24, num_hidden_layers=6)),
    "cohere": ("CohereForCausalLM", "CohereConfig", SMALL | dict(num_key_value_heads=2)),
    "cohere2": ("Cohere2ForCausalLM", "Cohere2Config", GROUPED | dict(num_hidden_layers=4)),
    "glm": ("GlmForCausalLM", "GlmConfig", GROUPED),
    "glm4": ("Glm4ForCausalLM", "Glm4Config", GROUPED),
    "ernie": ("Ernie4_5ForCausalLM", "Ernie4_5Config", GROUPED),
    "phimoe": (
        "PhimoeForCausalLM",
        "PhimoeConfig",
        SMALL | dict(num_key_value_heads=2, num_local_experts=2, sliding_window=16),
    ),
    "smollm3": ("SmolLM3ForCausalLM", "SmolLM3Config", GROUPED | dict(no_rope_layers=[1, 0])),
    "llama4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        GROUPED | dict(intermediate_size_mlp=48, num_local_experts=2, no_rope_layers=[1, 0], attention_chunk_size=4096),
    ),
}
CODES: dict[str, Any] = dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=8)
REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "bloom": ("BloomForCausalLM", "BloomConfig", dict(vocab_size=64, hidden_size=32, n_layer=2, n_head=4), "interface"),
    "mpt": ("MptForCausalLM", "MptConfig", dict(vocab_size=64, d_model=32, n_layers=2, n_heads=4), "interface"),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", CODES, "interface"),
    "codegen": ("CodeGenForCausalLM", "CodeGenConfig", CODES, "interface"),
    "falcon": ("FalconForCausalLM", "FalconConfig", SMALL, "interface"),
    "alibi": ("FalconForCausalLM", "FalconConfig", SMALL | dict(alibi=True), "interface"),
    "neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        dict(vocab_size=64, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global"], 2]]),
        "interface",
    ),
    "gpt-oss": ("GptOssForCausalLM", "GptOssConfig", GROUPED | dict(num_local_experts=2, num_experts_per_tok=1), "s_aux"),
    "gemma3n": (
        "Gemma3nForCausalLM",
        "Gemma3nTextConfig",
        GROUPED
        | dict(num_hidden_layers=4, num_kv_shared_layers=2, vocab_size_per_layer_input=64, hidden_size_per_layer_input=8)
        | dict(layer_types=["full_attention"] * 4, intermediate_size=48, activation_sparsity_pattern=None, laurel_rank=4),
        "twice",
    ),
    "diffllama": ("DiffLlamaForCausalLM", "DiffLlamaConfig", GROUPED, "without a memory|as it is"),
    "deepseek": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        SMALL
        | dict(moe_intermediate_size=16, n_routed_experts=4, n_group=2, topk_group=1, num_experts_per_tok=2)
        | dict(kv_lora_rank=8, q_lora_rank=8, qk_rope_head_dim=4, v_head_dim=8, qk_nope_head_dim=8, first_k_dense_replace=1),
        "as it is|as they are|without a memory",
    ),
    "jamba": (
        "JambaForCausalLM",
        "JambaConfig",
        GROUPED | dict(num_hidden_layers=8, num_experts=2, mamba_d_state=4, mamba_dt_rank=4, use_mamba_kernels=False),
        "without a memory",
    ),
    "qwen3-next": (
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        GROUPED | dict(num_experts=2, linear_num_key_heads=2, linear_num_value_heads=2),
        "linear_attention",
    ),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4),
        "without a memory|language model",
    ),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        dict(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4),
        "language model",
    ),
}  # fmt: skip
OLD = Version(transformers.__version__) < Version("5.10")
WINDOW = SinkWindow(sinks=2, window=14, every=4)


def build(kind: str, config: str, sizes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    try:
        return getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()
    except Exception as error:
        if not OLD:
            raise
        pytest.skip(f"transformers {transformers.__version__} cannot build its own {kind}: {error!r}")


def tiny(**options: Any) -> Any:
    return build("LlamaForCausalLM", "LlamaConfig", GROUPED | options)


def gpt2() -> Any:
    return build("GPT2LMHeadModel", "GPT2Config", dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def ids(time: int = 40, rows: int = 1) -> Tensor:
    return torch.randint(0, 60, (rows, time), generator=torch.Generator().manual_seed(1))


def keys_at(attached: Attached, position: int) -> list[Tensor]:
    """Of one token that stands there alone, in every layer."""
    cache = attached.cache()
    attached.model(ids(1), position_ids=torch.tensor([[position]]), past_key_values=cache)
    return [layer.pasts[0][1].banks[0].keys() for layer in cache.memory]


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_turns_its_keys_as_the_model_does(name: str) -> None:
    model = build(*MODELS[name])
    plain = model(ids()).logits
    with attach(model) as attached:
        torch.testing.assert_close(model(ids()).logits, plain, rtol=0, atol=1e-5)
        here, there = keys_at(attached, 5), keys_at(attached, 28)
        for turn, one, two in zip(attached.rotate, here, there, strict=True):
            assert turn is not None
            moved = turn(one, torch.full(one.shape[:2], 23))
            torch.testing.assert_close(moved, two, rtol=0, atol=1e-5 * float(two.abs().max()) + 1e-6)
    with attach(model, chain(WINDOW, Contiguous())) as attached:
        whole, cache = model(ids()).logits, attached.cache()
        chunks = [model(part, past_key_values=cache).logits for part in ids().split(7, dim=1)]
        torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_memory_would_change_is_refused_and_left_as_it_was(name: str) -> None:
    kind, config, sizes, match = REFUSED[name]
    if OLD and name == "deepseek":
        pytest.skip("before transformers 5.10 it attends to the keys of its cache as they are, and a memory is exact")
    model = build(kind, config, sizes)
    implementation = model.config._attn_implementation
    with pytest.raises(AttimeError, match=match):
        attach(model)
    assert model.config._attn_implementation == implementation
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def test_a_cache_goes_on_only_with_its_model_and_policy() -> None:
    model, other = tiny(), tiny(rope_parameters=dict(rope_type="default", rope_theta=500.0))
    with attach(model, WINDOW) as attached:
        cache = attached.cache()
        model(ids(), past_key_values=cache)
        branch, rest = cache.copy(), model(ids(), past_key_values=cache).logits
    with attach(model), pytest.raises(AttimeError, match="another policy"):
        model(ids(), past_key_values=branch)
    with attach(other, WINDOW), pytest.raises(AttimeError, match="another model"):
        other(ids(), past_key_values=branch)
    changed = copy.deepcopy(model)
    changed.model.layers[1].self_attn.k_proj.weight.mul_(1.5)
    with attach(changed, WINDOW), pytest.raises(AttimeError, match="another model"):
        changed(ids(), past_key_values=branch)
    with pytest.raises(AttimeError, match="has been detached"):
        model(ids(), past_key_values=branch)
    with attach(model, WINDOW):
        assert torch.equal(model(ids(), past_key_values=branch).logits, rest)


def test_learnt_positions_and_chunks_of_attention_end_in_a_sentence() -> None:
    model = gpt2()
    with attach(model, WINDOW) as attached:
        cache = attached.cache()
        model(ids(60), past_key_values=cache)
        with pytest.raises(AttimeError, match="at most 64 tokens with a memory too; got 70"):
            model(ids(10), past_key_values=cache)
        assert model(ids(4), past_key_values=cache).logits.isfinite().all()
    kind, config, sizes = MODELS["llama4"]
    model = build(kind, config, sizes | dict(attention_chunk_size=32))
    plain = model(ids(32)).logits
    with attach(model):
        torch.testing.assert_close(model(ids(32)).logits, plain, rtol=0, atol=1e-5)
        with pytest.raises(AttimeError, match="in chunks"):
            model(ids(33))


def test_without_rotary_positions_it_is_said_what_to_write() -> None:
    model, retrieve = gpt2(), Retrieve(window=300)
    with pytest.raises(AttimeError, match=r"use 'SinkWindow\(sinks=2, window=14, every=4\)'") as told:
        attach(model, chain(WINDOW, Contiguous()))
    assert "Contiguous" not in str(told.value).split("use '")[1]
    with pytest.raises(AttimeError, match="contiguous=False"):
        attach(model, retrieve)
    attach(model, Retrieve(window=300, contiguous=False)).detach()


def test_finding_out_disturbs_nothing_and_is_remembered() -> None:
    model, calls = tiny(attention_dropout=0.5), []
    model.train()
    model.model.layers[0].eval()
    for part in model.modules():
        part.register_forward_hook(lambda *_: calls.append(1))
        part.register_forward_pre_hook(lambda *_: calls.append(1))
    training = [part.training for part in model.modules()]
    hooks = [list(part._forward_hooks) for part in model.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with torch.enable_grad():
        attach(model).detach()
    assert torch.equal(torch.get_rng_state(), state)
    assert not calls
    assert [part.training for part in model.modules()] == training
    assert [list(part._forward_hooks) for part in model.modules()] == hooks
    assert all(each.grad is None and each.requires_grad for each in model.parameters())
    known = FOUND[text_part(model)]
    attach(model).detach()
    assert FOUND[text_part(model)] is known


def test_a_model_without_numbers_is_not_tried() -> None:
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED))
    with attach(model, chain(WINDOW, Contiguous())) as attached:
        assert len(attached.cache().memory) == 2
    assert text_part(model) not in FOUND


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "cohere2", "smollm3"])
def test_ways_are_found_in_half_precision(name: str, dtype: torch.dtype) -> None:
    model = build(*MODELS[name])
    exact = [each.way for each in rotations(text_part(model))]  # type: ignore[union-attr]
    assert [each.way for each in rotations(text_part(model.to(dtype)))] == exact  # type: ignore[union-attr]
