"""The lines that the docs show, run as they stand on tiny random pipelines of the real classes."""

import doctest
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from attime.hub import sites, steer
from attime.zoo.watcher import Watcher
from tiny_models import MODELS

d: Any = diffusers
t: Any = transformers


def _tokenizer(length: int):
    words = ("[PAD]", "[UNK]", "[END]", "a", "cat", "runs")
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return t.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]", model_max_length=length
    )


def _animatediff():
    unet, _ = MODELS["animatediff"].made()
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = d.AutoencoderKL(**blocks, block_out_channels=(8, 8), latent_channels=4, norm_num_groups=2)
    text = t.CLIPTextConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    return d.AnimateDiffPipeline(
        vae=vae.eval(),
        text_encoder=t.CLIPTextModel(text).eval(),
        tokenizer=_tokenizer(8),
        unet=unet,
        motion_adapter=d.MotionAdapter(
            block_out_channels=(8, 16),
            motion_layers_per_block=1,
            motion_norm_num_groups=4,
            motion_num_attention_heads=2,
        ),
        scheduler=d.DDIMScheduler(beta_schedule="linear", clip_sample=False),
    )


def _cogvideox():
    torch.manual_seed(0)
    transformer = d.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=8,
        num_layers=2,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=226,
    )
    blocks = {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4}
    vae = d.AutoencoderKLCogVideoX(
        **blocks,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
    )
    text = t.T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    return d.CogVideoXPipeline(
        tokenizer=_tokenizer(226),
        text_encoder=t.T5EncoderModel(text).eval(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=d.CogVideoXDDIMScheduler(),
    )


def _qwen():
    model = Watcher.build().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3.0)  # so that what comes next depends on what is looked at
    watcher = Watcher(model)
    inputs = watcher.inputs(
        np.random.default_rng(0).integers(0, 256, (1, 8, 32, 32, 3), dtype=np.uint8), ["what moves ?"]
    )
    return {"model": model, "inputs": inputs}


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


CLASSES: dict[str, Callable[[], dict[str, Any]]] = {
    "AnimateDiffPipeline": lambda: {"pipe": _quiet(_animatediff())},
    "CogVideoXPipeline": lambda: {"pipe": _quiet(_cogvideox())},
    "Qwen2_5_VLForConditionalGeneration": _qwen,
}


def _shown() -> dict[str, list[str]]:
    """Per class of pipeline the lines of the docstring that come after its name, and the user's own call."""
    made: dict[str, list[str]] = {}
    for piece in doctest.DocTestParser().parse(steer.__doc__ or ""):
        if isinstance(piece, str):
            made |= {name: [] for name in CLASSES if name in piece}
        else:
            made[list(made)[-1]].append(piece.source)
    return made


@pytest.mark.parametrize("name", CLASSES)
def test_the_lines_of_the_docs_run(name: str) -> None:
    lines = _shown()[name]
    assert sum(len(each.strip().splitlines()) for each in lines) == 4, "three lines, and the call that was there"
    given = CLASSES[name]()
    call = lines[-1].strip().splitlines()[-1].strip()

    def made(source: str) -> np.ndarray:
        torch.manual_seed(0)
        known = dict(given)
        exec(source, known)
        return np.stack([np.asarray(each) for each in known[call.split(" = ")[0]]]).astype(int)

    before = made(call)
    steered = made("".join(lines))
    assert steered.shape == before.shape
    assert (steered != before).any()
    assert (made(call) == before).all()


def test_a_pipeline_has_the_sites_of_what_runs() -> None:
    parts = {site.part for site in sites(_animatediff())}
    assert parts == {"unet", "text_encoder"}
