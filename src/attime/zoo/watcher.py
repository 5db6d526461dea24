"""The watcher: a small Qwen2.5-VL that answers questions about what happens in a clip of the world."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast, final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from attime.errors import AttimeError
from attime.streams.world.ask import Question
from attime.streams.world.tell import WORDS, decode, encode
from attime.zoo.contract import Goal, Log, Pretrained
from attime.zoo.descend import descend
from attime.zoo.lesson import PATCH, lesson, told
from attime.zoo.qwen_video import END, PAD, START, lead, patchify, prompts, waves
from attime.zoo.seeing import FACTS, LABELS
from attime.zoo.watching import FPS, KINDS, NEED, SIZE, Course, exam, film, right

__all__ = ["Watcher"]

Frames = NDArray[np.uint8] | UInt8[Tensor, "*clips time height width 3"]
Earlier = Sequence[tuple[str, str]]

VOCABULARY = 256  # the world's words, room for more, and last the four numbers that stand for what is seen
WIDTH, SIGHT = 64, 96  # of the language model and of the vision tower
DEVIATION = 0.12  # of weights at the start: about WIDTH ** -0.5
SHOWN, KNOWN = 0.3, 0.04  # weights of what patches show and of what is known of named things, from the third level on
CLIPS = 16  # of a training step
ROWS = 64  # questions answered at a time
LONGEST = 24  # words of an answer
ASKED = 100  # questions of each kind that are measured


@final
class Watcher(Pretrained):
    """A Qwen2.5-VL-class model of 0.4 M parameters that watches 4 s and answers in the world's words."""

    name: ClassVar[str] = "watcher"
    about: ClassVar[str] = (
        "Qwen2_5_VLForConditionalGeneration; says which way, how often, when and in which order things happen in a clip"
    )
    data: ClassVar[str] = "clips of the world and questions about them, made while it trains: no data of others"
    steps: ClassVar[int] = 8000
    goals: ClassVar[tuple[Goal, ...]] = (
        *(Goal(metric=kind, better="higher", bound=0.9) for kind in NEED),
        Goal(metric="conversation", better="higher", bound=0.85),
        Goal(metric="one_frame_over_chance", better="lower", bound=0.15),
    )

    @classmethod
    def build(cls) -> nn.Module:
        rest: dict[str, Any] = {"initializer_range": DEVIATION}
        config = Qwen2_5_VLConfig(
            text_config={
                "vocab_size": VOCABULARY,
                "hidden_size": WIDTH,
                "intermediate_size": 168,
                "num_hidden_layers": 4,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 4096,
                "initializer_range": DEVIATION,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10.0, "mrope_section": [1] * 8},
                "bos_token_id": START,
                "eos_token_id": END,
                "pad_token_id": PAD,
            },
            vision_config={
                "depth": 1,
                "hidden_size": SIGHT,
                "intermediate_size": 2 * SIGHT,
                "num_heads": 4,
                "patch_size": PATCH,
                "spatial_merge_size": 1,
                "temporal_patch_size": 2,
                "tokens_per_second": 2,
                "window_size": SIZE,
                "fullatt_block_indexes": [0],
                "out_hidden_size": WIDTH,
                "initializer_range": DEVIATION,
            },
            image_token_id=VOCABULARY - 4,
            video_token_id=VOCABULARY - 3,
            vision_start_token_id=VOCABULARY - 2,
            vision_end_token_id=VOCABULARY - 1,
            **rest,
        )
        model = Qwen2_5_VLForConditionalGeneration(config)
        settings = model.generation_config
        settings.do_sample, settings.max_new_tokens, settings.max_length = False, LONGEST, None
        settings.bos_token_id, settings.eos_token_id, settings.pad_token_id = START, END, PAD
        with torch.no_grad():
            filters = waves(SIGHT, PATCH) * 0.4
            filters[SIGHT // 2 :] *= 8  # what moves is faint beside what is there
            model.model.visual.patch_embed.proj.weight.copy_(filters)
        return model

    @classmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        course = Course(seed)
        device = next(model.parameters()).device
        heads = nn.ModuleList(nn.Linear(WIDTH, sum(kinds.values())) for kinds in (LABELS, FACTS)).to(device)
        seen = [0.0] * (len(LABELS) + len(FACTS))

        def watch() -> str:
            shares = zip((*LABELS, *FACTS), seen, strict=True)
            return f"{course} | " + "  ".join(f"{name} {share:.2f}" for name, share in shares)

        def loss_at(step: int) -> Tensor:
            alone = course.level < 2 or step % 4 != 3
            shots, asked = course.lesson(step, CLIPS)
            made = lesson(model, film(shots, seed=seed * 100_003 + step), asked, shots, alone=alone)
            flat = [question for each in asked for question in each]
            if alone:
                course.mark(step, flat, made.right)
            weights = torch.tensor([course.weight(question) for question in flat], device=device)
            shown, hits = told(heads[0](made.patches), made.shown, LABELS)
            known, more = told(heads[1](made.names), made.known, FACTS)
            seen[:] = [0.98 * before + 0.02 * hit for before, hit in zip(seen, hits + more, strict=True)]
            loss = (weights * made.losses).sum() / weights.sum() + SHOWN * shown
            return loss + KNOWN * known if course.level > 1 else loss

        descend(
            nn.ModuleList([model, heads]),
            loss_at,
            steps=steps,
            learning_rate=2e-3,
            warmup=100,
            log=log,
            muon=("layers.", "blocks."),
            muon_rate=1e-2,
            watch=watch,
        )

    def inputs(
        self, frames: Frames, text: str | Sequence[str], *, seconds_per_frame: float = 1 / FPS, earlier: Earlier = ()
    ) -> dict[str, Tensor]:
        """Keyword arguments of the class: `model(**inputs)` and `model.generate(**inputs)` work with them.

        `frames` are uint8 (time, height, width, 3), or (clips, time, height, width, 3) with one text for each clip; several texts about one
        clip are several rows. Other sizes than 32 x 32 are resized. `earlier` are questions and answers that go before.
        """
        texts = [text] if isinstance(text, str) else list(text)
        return self._inputs(_clips(frames, len(texts)), _rows(texts, earlier), seconds_per_frame)

    def ask(
        self,
        frames: Frames,
        question: str | Sequence[str],
        *,
        seconds_per_frame: float = 1 / FPS,
        earlier: Earlier = (),
    ) -> str | list[str]:
        """The answer to a question, or a list of answers to several; see `inputs` for what may be asked about what."""
        texts = [question] if isinstance(question, str) else list(question)
        answers = self._said(_clips(frames, len(texts)), _rows(texts, earlier), seconds_per_frame)
        return answers[0] if isinstance(question, str) else answers

    @torch.no_grad()
    def scores(
        self,
        frames: Frames,
        question: str,
        options: Sequence[str],
        *,
        seconds_per_frame: float = 1 / FPS,
        earlier: Earlier = (),
    ) -> list[float]:
        """Log-probability of each option, its end included, as the answer to a question about one clip."""
        answers = [[*encode(option), END] for option in options]
        rows = [row + answer for row, answer in zip(_rows([question] * len(answers), earlier), answers, strict=True)]
        inputs = self._inputs(_clips(frames, len(rows)), rows, seconds_per_frame)
        logits = self.model(**inputs, use_cache=False).logits.log_softmax(-1)
        words = [torch.tensor(answer, device=self.device) for answer in answers]
        return [
            float(logits[row, -len(each) - 1 : -1].gather(1, each[:, None]).sum()) for row, each in enumerate(words)
        ]

    def measure(self, *, seed: int) -> dict[str, float]:
        """Of each kind of question the share of right answers, on shots of the last level of what it learns from.

        `when` is right where the interval and the true one share 0.7 of their union. `KIND_one_frame` is for the middle
        frame over and over, `KIND_shuffled` for frames in random order, `KIND_chance` for who guesses among the options
        (for `when`: who gives the answer to another question). `conversation` is for questions that follow two others.
        """
        sheet = exam(seed, each=ASKED)
        timed = [place for place, question in enumerate(sheet.asked) if question.kind in NEED]
        asked, frames = [sheet.asked[place] for place in timed], sheet.frames[timed]
        random = np.random.default_rng(seed)
        middle = frames[:, [frames.shape[1] // 2]].repeat(frames.shape[1], axis=1)
        mixed = np.stack([clip[random.permutation(len(clip))] for clip in frames])
        numbers = self._shares(sheet.asked, sheet.frames)
        numbers |= {f"{kind}_one_frame": share for kind, share in self._shares(asked, middle).items()}
        numbers |= {f"{kind}_shuffled": share for kind, share in self._shares(asked, mixed).items()}
        numbers |= {
            f"{kind}_chance": float(np.mean([each.chance for each in asked if each.kind == kind])) for kind in NEED
        }
        when = [question for question in asked if question.kind == "when"]
        numbers["when_chance"] = float(
            np.mean([right(one, two.answer) for one in when for two in when if one is not two])
        )
        told = [[(one.text, one.answer) for one in sheet.earlier[place]] for place in timed[::2]]
        rows = [_rows([each.text], before)[0] for each, before in zip(asked[::2], told, strict=True)]
        said = self._said(torch.from_numpy(frames[::2]), rows, 1 / FPS)
        numbers["conversation"] = float(np.mean([right(*each) for each in zip(asked[::2], said, strict=True)]))
        over = [numbers[f"{kind}_one_frame"] - numbers[f"{kind}_chance"] for kind in NEED]
        return numbers | {"one_frame_over_chance": float(np.mean(over))}

    def _shares(self, asked: Sequence[Question], frames: NDArray[np.uint8]) -> dict[str, float]:
        """Of each kind the share of right answers."""
        said = self.ask(frames, [question.text for question in asked])
        good: dict[str, list[bool]] = {}
        for question, answer in zip(asked, said, strict=True):
            good.setdefault(question.kind, []).append(right(question, answer))
        return {kind: float(np.mean(good[kind])) for kind in KINDS if kind in good}

    def _inputs(self, clips: Tensor, rows: Sequence[Sequence[int]], seconds_per_frame: float) -> dict[str, Tensor]:
        """What the class reads: row by row a clip and words."""
        if seconds_per_frame <= 0:
            raise AttimeError(f"the watcher needs seconds_per_frame above 0; got {seconds_per_frame}.")
        config = cast(Any, self.model).config
        pixels, grid = patchify(clips.to(self.device), config.vision_config)
        start = lead(grid, config)
        seconds = seconds_per_frame * config.vision_config.temporal_patch_size
        return {
            **prompts([[*start, *row] for row in rows], config, device=self.device),
            "pixel_values_videos": pixels,
            "video_grid_thw": grid,
            "second_per_grid_ts": torch.full((len(rows),), seconds, device=self.device),
        }

    @torch.no_grad()
    def _said(self, clips: Tensor, rows: Sequence[Sequence[int]], seconds_per_frame: float) -> list[str]:
        """What the class generates, the likeliest word at every step."""
        answers: list[str] = []
        for start in range(0, len(rows), ROWS):
            inputs = self._inputs(clips[start : start + ROWS], rows[start : start + ROWS], seconds_per_frame)
            numbers = cast(Any, self.model).generate(**inputs)[:, inputs["input_ids"].shape[1] :]
            answers += [
                decode([number for number in row if number < len(WORDS) and number not in (PAD, END)])
                for row in numbers.tolist()
            ]
        return answers


def _clips(frames: Frames, rows: int) -> Tensor:
    """Frames of each row (rows, time, 32, 32, 3), from one clip for all of them or one for each."""
    clips = torch.as_tensor(frames)
    if clips.dtype != torch.uint8 or clips.ndim not in (4, 5) or clips.shape[-1] != 3 or not clips.numel() or not rows:
        raise AttimeError(
            "the watcher needs uint8 frames (time, height, width, 3), or (clips, time, height, width, 3), and a question; "
            f"got {clips.dtype} {tuple(clips.shape)} and {rows} questions."
        )
    if clips.ndim == 4:
        clips = clips.expand(rows, *clips.shape)
    if len(clips) != rows:
        raise AttimeError(f"the watcher needs one clip for all questions or one for each; got {len(clips)} and {rows}.")
    if clips.shape[2:4] == (SIZE, SIZE):
        return clips
    flat = clips.flatten(0, 1).movedim(-1, 1).float()
    larger = min(clips.shape[2:4]) >= SIZE
    sized = functional.interpolate(flat, (SIZE, SIZE), mode="area" if larger else "bilinear")
    return sized.round().clamp(0, 255).to(torch.uint8).movedim(1, -1).unflatten(0, clips.shape[:2])


def _rows(texts: Sequence[str], earlier: Earlier) -> list[list[int]]:
    """Word numbers of questions, each after the same earlier questions and answers."""
    before = [number for question, answer in earlier for number in [*encode(question), *encode(answer), END]]
    return [before + encode(text) for text in texts]
