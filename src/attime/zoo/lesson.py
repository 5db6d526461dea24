"""One lesson of the watcher: clips, questions about them, and beside the answers what patches show and what named things do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from attime.streams.world.ask import Question
from attime.streams.world.scene import Shot
from attime.streams.world.tell import WORDS, encode
from attime.zoo.qwen_video import END, VIDEO, Pages, lead, paged, patchify
from attime.zoo.seeing import facts, labelled
from attime.zoo.watching import FPS, FRAMES, SIZE

__all__ = ["PATCH", "Lesson", "lesson", "told"]

PATCH = 8
EARLY, LATER = 2, 3
"""After so many layers of the language model a patch should know what it shows, and a colour in a question what its thing does."""
LONG = 4
"""Words of an answer; a longer one, an interval, has more to say and counts twice."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What the model made of a lesson, and what is true."""

    losses: Float[Tensor, " questions"]
    right: list[bool]
    """Whether every word of an answer was the likeliest."""
    patches: Float[Tensor, "clips patches dim"]
    """Hidden states of patches ..."""
    shown: Int[Tensor, "clips patches labels"]
    """... and `seeing.LABELS` of them."""
    names: Float[Tensor, "named dim"]
    """Hidden states where things are named ..."""
    known: Int[Tensor, "named facts"]
    """... and `seeing.FACTS` about them."""


def lesson(
    model: nn.Module,
    frames: NDArray[np.uint8],
    asked: Sequence[Sequence[Question]],
    shots: Sequence[Shot],
    *,
    alone: bool,
) -> Lesson:
    """All questions about a clip share one row: in conversation, or with `alone` as if each were the only one."""
    qwen = cast(Any, model)
    vision, device = qwen.config.vision_config, qwen.device
    pixels, grid = patchify(torch.from_numpy(frames).to(device), vision)
    turns = [[(encode(each.text), [*encode(each.answer), END]) for each in questions] for questions in asked]
    pages = paged(lead(grid, qwen.config), turns, device)
    seconds = torch.full((1,), vision.temporal_patch_size / FPS, device=device)
    kinds = VIDEO * (pages.ids[:1] == qwen.config.video_token_id).int()
    positions, _ = qwen.model.get_rope_index(pages.ids[:1], kinds, video_grid_thw=grid[:1], second_per_grid_ts=seconds)
    mask, positions = pages.alone(positions) if alone else (None, positions.expand(-1, len(asked), -1))
    outputs = qwen.model(
        input_ids=pages.ids,
        attention_mask=mask,
        position_ids=positions,
        pixel_values_videos=pixels,
        video_grid_thw=grid,
        use_cache=False,
        output_hidden_states=True,
    )
    said = pages.said[:, 1:]
    logits, words = qwen.lm_head(outputs.last_hidden_state[:, :-1][said]), pages.ids[:, 1:][said]
    most = max(len(each) for each in asked)
    which = (most * torch.arange(len(asked), device=device)[:, None] + pages.turn[:, 1:] - 1)[said]
    _, question = which.unique(return_inverse=True)
    nothing = torch.zeros(sum(len(each) for each in asked), device=device)
    losses = nothing.index_add(0, question, functional.cross_entropy(logits, words, reduction="none"))
    wrong = nothing.index_add(0, question, (logits.argmax(-1) != words).float())
    lengths = nothing.index_add(0, question, torch.ones_like(words, dtype=torch.float32))
    where, known = _named(pages, shots)
    shown = labelled(shots, slices=FRAMES // 2, slice_s=2 / FPS, cells=SIZE // PATCH)
    return Lesson(
        losses=torch.where(lengths > LONG, 2.0, 1.0) * losses / lengths,
        right=(wrong == 0).tolist(),
        patches=outputs.hidden_states[EARLY][:, 2 : 2 + int(grid[0].prod())],
        shown=torch.from_numpy(shown).to(device).flatten(1, 3),
        names=outputs.hidden_states[LATER][where],
        known=known.to(device),
    )


def told(logits: Tensor, targets: Tensor, kinds: Mapping[str, int]) -> tuple[Tensor, list[float]]:
    """The loss on what is said, and of each kind the share of places where it was the likeliest; targets below 0 are left out."""
    there = targets[..., 0] >= 0
    loss, hits = torch.zeros((), device=logits.device), list[float]()
    for number, part in enumerate(logits[there].split(list(kinds.values()), dim=-1)):
        wanted = targets[there][:, number]
        loss = loss + functional.cross_entropy(part, wanted)
        hits.append(float((part.argmax(-1) == wanted).float().mean()))
    return loss, hits


def _named(pages: Pages, shots: Sequence[Shot]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Where names of things begin in questions (rows, places), and the facts about these things."""
    rows, places, truth = list[int](), list[int](), list[list[int]]()
    in_question = (~pages.said & (pages.turn > 0)).tolist()
    for row, (shot, ids, asked) in enumerate(zip(shots, pages.ids.tolist(), in_question, strict=True)):
        known = dict(zip((thing.name for thing in shot.things), facts(shot, slice_s=2 / FPS).tolist(), strict=True))
        words = [WORDS[number] if number < len(WORDS) else "" for number in ids]
        for place in range(1, len(ids)):
            true = known.get(f"{words[place - 1]} {words[place]}") if asked[place] else None
            if true is not None:
                rows.append(row)
                places.append(place - 1)
                truth.append(true)
    return (torch.tensor(rows), torch.tensor(places)), torch.tensor(truth)
