"""Tiny random models of the real classes, one call of each, and what their attentions are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
import transformers as t
from torch import nn

__all__ = ["MODELS", "Tiny"]

d: Any = diffusers

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
SEE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
READ: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
MOTION: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "norm_num_groups": 4,
}


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """How to build a model, what to call it with, and how many sites of which part and kind it has."""

    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]
    sites: dict[str, int] = field(default_factory=dict)

    def made(self, seed: int = 0) -> tuple[Any, dict[str, Any]]:
        """The model and keyword arguments for it."""
        torch.manual_seed(seed)
        return self.build().eval(), self.inputs()


def _qwen() -> nn.Module:
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 8,
        "fullatt_block_indexes": [1],
        "out_hidden_size": 16,
    }
    config = t.Qwen2_5_VLConfig(
        text_config=TEXT
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1], "rope_theta": 10000.0}},
        vision_config=vision,
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )
    return t.Qwen2_5_VLForConditionalGeneration(config)


def _qwen_inputs() -> dict[str, Any]:
    ids = torch.tensor([[62, *[61] * 8, 63, 1, 2, 3]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": torch.randn(32, 96),
        "video_grid_thw": torch.tensor([[2, 4, 4]]),
        "mm_token_type_ids": 2 * (ids == 61).int(),
    }


def _llava() -> nn.Module:
    config = t.LlavaOnevisionConfig(
        vision_config={"model_type": "siglip_vision_model", **SEE},
        text_config={"model_type": "qwen2", **TEXT},
        image_token_index=60,
        video_token_index=61,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[16, 16]],
    )
    return t.LlavaOnevisionForConditionalGeneration(config)


def _llava_inputs() -> dict[str, Any]:
    ids = torch.tensor([[*[61] * 4, 1, 2, 3]])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values_videos": torch.randn(1, 3, 3, 16, 16),
    }


def _ids(*shape: int) -> torch.Tensor:
    return torch.randint(4, 60, shape)


def _noisy(*shape: int, key: str = "hidden_states", **rest: Any) -> dict[str, Any]:
    return {key: torch.randn(*shape), "timestep": torch.tensor([10]), **rest}


def _sd3(sites: dict[str, int], **more: Any) -> Tiny:
    return Tiny(
        build=lambda: d.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=8,
            caption_projection_dim=16,
            pooled_projection_dim=8,
            out_channels=4,
            pos_embed_max_size=8,
            **more,
        ),
        inputs=lambda: _noisy(
            1, 4, 8, 8, encoder_hidden_states=torch.randn(1, 3, 8), pooled_projections=torch.randn(1, 8)
        ),
        sites=sites,
    )


MODELS: dict[str, Tiny] = {
    "llama": Tiny(
        build=lambda: t.LlamaForCausalLM(t.LlamaConfig(**TEXT)),
        inputs=lambda: {"input_ids": _ids(2, 9)},
        sites={"language self": 2},
    ),
    "qwen2.5-vl": Tiny(build=_qwen, inputs=_qwen_inputs, sites={"vision spatial": 2, "language self": 2}),
    "llava-onevision": Tiny(build=_llava, inputs=_llava_inputs, sites={"vision spatial": 2, "language self": 2}),
    "vit": Tiny(
        build=lambda: t.ViTModel(t.ViTConfig(**SEE)),
        inputs=lambda: {"pixel_values": torch.randn(1, 3, 16, 16)},
        sites={"vision spatial": 2},
    ),
    "clip": Tiny(
        build=lambda: t.CLIPModel(t.CLIPConfig(text_config=READ, vision_config=SEE, projection_dim=8)),
        inputs=lambda: {"input_ids": _ids(1, 6), "pixel_values": torch.randn(1, 3, 16, 16)},
        sites={"vision spatial": 2, "text self": 2},
    ),
    "siglip": Tiny(
        build=lambda: t.SiglipModel(t.SiglipConfig(text_config=READ, vision_config=SEE)),
        inputs=lambda: {"input_ids": _ids(1, 6), "pixel_values": torch.randn(1, 3, 16, 16)},
        sites={"vision spatial": 2, "text self": 2},
    ),
    "whisper": Tiny(
        build=lambda: t.WhisperForConditionalGeneration(
            t.WhisperConfig(
                vocab_size=64,
                d_model=16,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                encoder_ffn_dim=32,
                decoder_ffn_dim=32,
                num_mel_bins=8,
                max_source_positions=16,
                max_target_positions=16,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            )
        ),
        inputs=lambda: {"input_features": torch.randn(1, 8, 32), "decoder_input_ids": _ids(1, 5)},
        sites={"encoder self": 2, "decoder self": 2, "decoder cross": 2},
    ),
    "unet": Tiny(
        build=lambda: d.UNet2DConditionModel(
            **MOTION,
            attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        inputs=lambda: _noisy(1, 4, 8, 8, key="sample", encoder_hidden_states=torch.randn(1, 3, 8)),
        sites={"unet spatial": 4, "unet cross": 4},
    ),
    "animatediff": Tiny(
        build=lambda: d.UNetMotionModel(
            **MOTION,
            num_attention_heads=2,
            motion_num_attention_heads=2,
            motion_max_seq_length=16,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        ),
        inputs=lambda: _noisy(1, 4, 5, 8, 8, key="sample", encoder_hidden_states=torch.randn(5, 3, 8)),
        sites={"unet spatial": 4, "unet cross": 4, "unet temporal": 14},
    ),
    "unet3d": Tiny(
        build=lambda: d.UNet3DConditionModel(
            **MOTION,
            attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        ),
        inputs=lambda: _noisy(1, 4, 5, 8, 8, key="sample", encoder_hidden_states=torch.randn(1, 3, 8)),
        sites={"unet spatial": 4, "unet cross": 4, "unet temporal": 10},
    ),
    "latte": Tiny(
        build=lambda: d.LatteTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=16,
            sample_size=8,
            patch_size=2,
            caption_channels=8,
            video_length=5,
            activation_fn="gelu-approximate",
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            attention_bias=True,
        ),
        inputs=lambda: _noisy(1, 4, 5, 8, 8, encoder_hidden_states=torch.randn(1, 3, 8)),
        sites={"transformer spatial": 2, "transformer cross": 2, "transformer temporal": 2},
    ),
    "cogvideox": Tiny(
        build=lambda: d.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=8,
            text_embed_dim=8,
            num_layers=2,
            sample_width=8,
            sample_height=8,
            sample_frames=9,
            patch_size=2,
            temporal_compression_ratio=4,
            max_text_seq_length=3,
        ),
        inputs=lambda: _noisy(1, 3, 4, 8, 8, encoder_hidden_states=torch.randn(1, 3, 8)),
        sites={"transformer joint": 2},
    ),
    "wan": Tiny(
        build=lambda: d.WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=8,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ),
        inputs=lambda: _noisy(1, 4, 3, 8, 8, encoder_hidden_states=torch.randn(1, 3, 8)),
        sites={"transformer joint": 2, "transformer cross": 2},
    ),
    "sd3": _sd3({"transformer joint": 2}),
    "sd3.5": _sd3({"transformer joint": 2, "transformer spatial": 1}, dual_attention_layers=(0,), qk_norm="rms_norm"),
    "flux": Tiny(
        build=lambda: d.FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            axes_dims_rope=(2, 2, 4),
        ),
        inputs=lambda: _noisy(
            1,
            12,
            4,
            encoder_hidden_states=torch.randn(1, 5, 8),
            pooled_projections=torch.randn(1, 8),
            img_ids=torch.cartesian_prod(torch.zeros(1), torch.arange(3.0), torch.arange(4.0)),
            txt_ids=torch.zeros(5, 3),
        ),
        sites={"transformer joint": 2},
    ),
}
"""By name."""
