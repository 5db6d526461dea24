"""From frames and words to what Qwen2.5-VL reads: patches of pixels, placeholders for them, word numbers, positions.

The class's own processor needs torchvision and a tokenizer; this is its arithmetic in plain torch, in the world's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from attime.errors import AttimeError
from attime.streams.world.tell import WORDS

__all__ = ["END", "PAD", "START", "VIDEO", "Pages", "lead", "paged", "patchify", "prompts", "waves"]

PAD, START, END = (WORDS.index(word) for word in ("<pad>", "<start>", "<end>"))
VIDEO = 2  # in mm_token_type_ids: 0 is text, 1 an image, 2 a video


def patchify(
    frames: UInt8[Tensor, "batch time height width 3"], vision: Any
) -> tuple[Float[Tensor, "patches pixels"], Int[Tensor, "batch 3"]]:
    """Frames as the vision tower reads them, and the grid (time, height, width) of each clip in patches.

    An odd number of frames is filled up with the last one. `vision` is the class's configuration of the tower;
    height and width must be multiples of its patch size times its merge size.
    """
    patch, depth, merge = vision.patch_size, vision.temporal_patch_size, vision.spatial_merge_size
    batch, time, height, width, channels = frames.shape
    if channels != 3 or not time or height % (patch * merge) or width % (patch * merge):
        raise AttimeError(
            f"patchify needs frames (batch, time, height, width, 3) of a height and width that {patch * merge} divides; "
            f"got {tuple(frames.shape)}: resize them first."
        )
    if time % depth:
        frames = torch.cat([frames, frames[:, -1:].expand(-1, depth - time % depth, -1, -1, -1)], dim=1)
    mean, deviation = (torch.tensor(each, device=frames.device) for each in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    values = ((frames / 255 - mean) / deviation).movedim(-1, 2)
    rows, columns = height // patch, width // patch
    values = values.reshape(batch, -1, depth, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    values = values.permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    grid = torch.tensor([values.shape[1], rows, columns], device=frames.device).repeat(batch, 1)
    return values.reshape(-1, 3 * depth * patch * patch), grid


def lead(grid: Int[Tensor, "batch 3"], config: Any) -> list[int]:
    """The numbers that stand before the words of every row: the start, and a placeholder for each visual token."""
    count = int(grid[0].prod()) // config.vision_config.spatial_merge_size**2
    return [START, config.vision_start_token_id, *[config.video_token_id] * count, config.vision_end_token_id]


def prompts(rows: Sequence[Sequence[int]], config: Any, *, device: torch.device) -> dict[str, Tensor]:
    """Rows of word numbers as one batch, padded on the left, so that every row ends where the answer begins."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[PAD] * (longest - len(row)) + list(row) for row in rows], device=device)
    there = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return {
        "input_ids": ids,
        "attention_mask": there,
        "mm_token_type_ids": VIDEO * (ids == config.video_token_id).int(),
    }


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Many turns of question and answer about each clip, one after the other in one row."""

    ids: Int[Tensor, "batch length"]
    turn: Int[Tensor, "batch length"]
    """0 before the words, n in turn n, -1 at padding."""
    said: Bool[Tensor, "batch length"]
    """Whether it is part of an answer."""

    def alone(self, positions: Int[Tensor, "3 1 length"]) -> tuple[Tensor, Tensor]:
        """Mask (batch, 1, length, length) and positions (3, batch, length) with which no turn knows of another."""
        length, turn = self.ids.shape[1], self.turn
        begins = torch.ones_like(turn, dtype=torch.bool)
        begins[:, 1:] = turn[:, 1:] != turn[:, :-1]
        place = torch.arange(length, device=turn.device)
        since = place - torch.where(begins, place, 0).cummax(dim=1).values
        first = positions[0, 0, int((turn[0] == 0).sum())]
        same = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
        mask = (same & (place[:, None] >= place))[:, None]
        return mask, torch.where((turn == 0)[None], positions, (first + since)[None])


def paged(start: Sequence[int], turns: Sequence[Sequence[tuple[list[int], list[int]]]], device: torch.device) -> Pages:
    """Rows of turns (question, answer with its end), each row after the same `start`, padded on the right."""
    rows = []
    for each in turns:
        row = [(number, 0, 0) for number in start]
        for turn, (question, answer) in enumerate(each, 1):
            row += [(number, turn, 0) for number in question] + [(number, turn, 1) for number in answer]
        rows.append(row)
    longest = max(len(row) for row in rows)
    ids, turn, said = torch.tensor([row + [(PAD, -1, 0)] * (longest - len(row)) for row in rows], device=device).unbind(
        dim=-1
    )
    return Pages(ids=ids, turn=turn, said=said.bool())


def waves(count: int, patch: int) -> Float[Tensor, "count 3 2 patch patch"]:
    """Filters of patches of two frames: the lowest spatial cosines of each colour, of the frames' sum, then of their difference."""
    place = (torch.arange(patch) + 0.5) / patch
    cosines = torch.stack([torch.cos(torch.pi * order * place) for order in range(patch)])
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    lowest = sorted((row + column, row, column) for row in range(patch) for column in range(patch))[: count // 6]
    space = torch.stack([torch.outer(cosines[row], cosines[column]) for _, row, column in lowest])
    one = torch.einsum("kij,cd->kcdij", space, torch.eye(3)).reshape(-1, 3, 1, patch, patch) / 2**0.5
    return torch.cat([torch.cat([one, one], dim=2), torch.cat([-one, one], dim=2)])
