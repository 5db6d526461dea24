"""What a forward is told, looked at before a memory takes anything in: rows, masks and positions that it would misread."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attime.errors import AttimeError

__all__ = ["check_told", "fed"]

FED = ("input_ids", "inputs_embeds")


def fed(args: tuple[Any, ...], told: Mapping[str, Any]) -> Tensor | None:
    """The tokens of a forward, or their embeddings: (batch, time, ...)."""
    found = next((each for each in (*args, *map(told.get, FED)) if each is not None), None)
    return found if isinstance(found, Tensor) and found.ndim >= 2 else None


@torch.compiler.disable
def check_told(tokens: Tensor | None, told: Mapping[str, Any], rows: int | None) -> None:
    """AttimeError for what a memory of so many rows (None: it is empty) cannot take in."""
    mask, positions = told.get("attention_mask"), told.get("position_ids")
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2):
        got = f"one of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise AttimeError(
            f"a memory keeps to a mask (batch, tokens so far) that is 0 at padding; got {got}: give such a mask, or detach."
        )
    if tokens is None:
        return
    if not tokens.shape[1]:
        raise AttimeError("a memory needs one new token at least in every forward; got none.")
    if rows is not None and len(tokens) != rows:
        raise AttimeError(
            f"a memory of {rows} rows goes on with {rows}; got {len(tokens)}: select rows of the cache first, or start with an "
            f"empty cache()."
        )
    alone = mask is None and isinstance(positions, Tensor) and positions.ndim == 2
    if alone and bool((positions[:, 1:] < positions[:, :-1]).any()):  # pyright: ignore[reportOptionalSubscript]
        raise AttimeError(
            "a memory reads a row as one text, and position_ids fall within a row here, as where several texts are packed into "
            "it: give every text a row of its own, with a mask, or detach."
        )
