"""Where attention happens in a model of transformers or diffusers, without running it.

A site is a module that calls `scaled_dot_product_attention`, found by what it is (an `...Attention` with no other inside),
not by a list of classes; its kind follows from its path and from the class of its model.
"""

from collections import Counter
from collections.abc import Iterator

from torch import nn

from attime.errors import AttimeError
from attime.site import Site

__all__ = ["FLAT", "owners", "sites"]

TEMPORAL = ("motion_modules", "temporal_transformer_blocks", "temp_attentions", "transformer_in")
FLAT = (
    "UNet",
    "Latte",
    "VisionTransformer",
    "PixArt",
    "Transformer2D",
)  # diffusers: no places of other frames in attn1
SEEING = ("visual", "vision_tower", "vision_model", "image_encoder", "vision_encoder")
PARTS = {"text_model": "text", "encoder": "encoder", "decoder": "decoder"}
IDLE = ("vae", "motion_adapter")  # of a pipeline: attends to no time, or is a copy of what the denoiser holds
CROSS = ("encoder_attn", "crossattention", "EncDecAttention")
SIZES = ("num_heads", "heads", "num_attention_heads", "n_heads")


def sites(model: object) -> list[Site]:
    """All attentions of a model, or of the denoiser and text encoders of a pipeline, in the order of their modules."""
    found: list[Site] = []
    numbers: Counter[tuple[str, str]] = Counter()
    for owner, root in owners(model).items():
        for path, module in _attentions(root):
            part, kind = _part(owner, path, root), _kind(path, module, root)
            found.append(
                Site(
                    name=f"{owner}.{path}" if owner else path,
                    part=part,
                    kind=kind,
                    layer=numbers[part, kind],
                    heads=_heads(module, root),
                )
            )
            numbers[part, kind] += 1
    if not found:
        raise AttimeError(
            f"sites needs a model of transformers or diffusers with attention in it, or a pipeline; {type(model).__name__} has "
            f"no module whose class ends with Attention."
        )
    return found


def owners(model: object) -> dict[str, nn.Module]:
    """The models in a pipeline that attend, by name; of a model alone, itself without a name."""
    if isinstance(model, nn.Module):
        return {"": getattr(model, "_orig_mod", model)}  # what torch.compile has wrapped
    components = getattr(model, "components", None)
    if not isinstance(components, dict):
        raise AttimeError(f"sites needs a torch module or a pipeline of diffusers; got a {type(model).__name__}.")
    return {name: each for name, each in components.items() if isinstance(each, nn.Module) and name not in IDLE}


def _attentions(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Paths and modules; attention of torch itself is left out, which does not go through the one function that is watched."""
    found = {
        path: module
        for path, module in root.named_modules()
        if type(module).__name__.endswith("Attention") and not isinstance(module, nn.MultiheadAttention) and path
    }
    for path, module in found.items():
        if not any(other.startswith(f"{path}.") for other in found):
            yield path, module


def _part(owner: str, path: str, root: nn.Module) -> str:
    names = path.split(".")
    if any(name in SEEING for name in names):
        return "vision"
    for name, part in PARTS.items():
        if name in names and (part == "text" or getattr(getattr(root, "config", None), "is_encoder_decoder", False)):
            return part
    if owner:
        return owner
    family = type(root).__module__
    if family.startswith("diffusers."):
        return "unet" if "UNet" in type(root).__name__ else "transformer"
    return "vision" if _sees(root) else "language"


def _kind(path: str, module: nn.Module, root: nn.Module) -> str:
    names = path.split(".")
    crossed = bool(getattr(module, "is_cross_attention", False)) or names[-1] in CROSS
    if any(name in TEMPORAL for name in names):
        return "cross" if crossed else "temporal"
    if type(root).__module__.startswith("diffusers."):
        if crossed or (names[-1] == "attn2" and getattr(module, "is_cross_attention", True)):
            return "cross"
        return "spatial" if type(root).__name__.startswith(FLAT) or names[-1] == "attn2" else "joint"
    if crossed:
        return "cross"
    return "spatial" if any(name in SEEING for name in names) or _sees(root) else "self"


def _sees(root: nn.Module) -> bool:
    """Is a transformers model of pictures alone."""
    return getattr(root, "main_input_name", "") == "pixel_values" and not hasattr(root, "text_model")


def _heads(module: nn.Module, root: nn.Module) -> int:
    for owner in (module, getattr(module, "config", None), getattr(root, "config", None)):
        for name in SIZES:
            if isinstance(heads := getattr(owner, name, None), int):
                return heads
    return 1
