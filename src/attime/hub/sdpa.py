"""Models of transformers that compute attention by torch's own function for a while, so that a tap hears of it."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from attime.errors import AttimeError

__all__ = ["use_sdpa"]

SOFTCAP = "attn_logit_softcapping"


def use_sdpa(root: nn.Module, sites: Iterable[str]) -> list[Any]:
    """Configurations of the parts that hold these sites and were set to "eager": they are set to "sdpa" now."""
    paths, eager = list(sites), dict[int, Any]()
    for path, model in root.named_modules():
        if isinstance(model, PreTrainedModel) and any(site.startswith(path) for site in paths):
            name = model.config._attn_implementation
            if name not in ("sdpa", "eager"):
                raise AttimeError(
                    f"{type(model).__name__} computes attention by {name!r}, which hides it: call "
                    f"set_attn_implementation('sdpa') first, or detach the memory."
                )
            if name == "eager":
                if (squeezed := getattr(model.config, SOFTCAP, None)) is not None:
                    raise AttimeError(
                        f"{type(model).__name__} squeezes its logits ({SOFTCAP}={squeezed}), which the sdpa attention "
                        f"through which attime looks cannot do: watch or steer a model without that."
                    )
                eager[id(model.config)] = model.config  # several parts of a model may share one
    for config in eager.values():
        config._attn_implementation = "sdpa"
    return list(eager.values())
