"""The listener: hears four seconds of the world and answers questions about them; a Whisper encoder and decoder.

The question is the prompt of the decoder, the answer is what the decoder says next. The encoder sees a log-mel picture of the
sound, 40 bands by 100 frames.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperForConditionalGeneration
from transformers.audio_utils import mel_filter_bank
from transformers.modeling_outputs import BaseModelOutput

from attime.errors import AttimeError
from attime.streams.world.ask import Question, questions
from attime.streams.world.ask_sound import sound_questions
from attime.streams.world.scene import Shot
from attime.streams.world.sound import hear_many
from attime.streams.world.tell import WORDS, decode, encode
from attime.streams.world.world import World
from attime.zoo.contract import Goal, Log, Pretrained
from attime.zoo.descend import descend

__all__ = ["Listener", "log_mel"]

RATE, SECONDS = 8000, 4
HOP, WINDOW, BANDS = 320, 512, 40
LONGEST = 80  # words of a question and its answer together
PAD, START, END = range(3)
SEEN = ("what", "count", "when", "change")  # kinds of questions about what is seen that an ear can answer as well
HEARD = ("which", "order", "ends", "then")
CLIPS = 24  # of a training step
MIX = {"then": 2, "when": 2, "order": 2, "what": 1, "which": 1, "count": 1, "change": 1, "ends": 1}
MEASURED = 150  # clips


def log_mel(samples: Tensor) -> Tensor:
    """(clips, 40, 100) from (clips, 32000) samples at 8 kHz: Whisper's picture of sound, at coarser steps."""
    power = torch.stft(
        samples, WINDOW, HOP, window=torch.hann_window(WINDOW, device=samples.device), return_complex=True
    )
    bands = torch.from_numpy(FILTERS).to(samples) @ power[..., :-1].abs().square()
    loud = bands.clamp(min=1e-8).log10()
    return (torch.maximum(loud, loud.amax((1, 2), keepdim=True) - 6) + 4) / 4


FILTERS: NDArray[np.float64] = mel_filter_bank(
    1 + WINDOW // 2, BANDS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney"
).T


def _world(seed: int) -> World:
    return World(seed=seed, seconds=1e9, shot_s=SECONDS, things=(2, 3), events=(2, 4), backdrops=("plain",))


def _asked(shot: Shot, seed: int) -> list[Question]:
    """All questions about a shot that an ear can answer, the story apart."""
    return questions(shot, kinds=SEEN, seed=seed) + sound_questions(shot, kinds=HEARD, seed=seed)


def _lesson(shot: Shot, seed: int) -> list[Question]:
    """What is asked of a shot in training: of each kind so many."""
    left = dict(MIX)
    chosen = []
    for question in _asked(shot, seed):
        if left[question.kind]:
            left[question.kind] -= 1
            chosen.append(question)
    return chosen


def _story(shot: Shot) -> list[Question]:
    return sound_questions(shot, kinds=("story",))


@final
class Listener(Pretrained):
    """A Whisper-class model, 0.4 M parameters, that answers in the world's words (see the module docstring)."""

    name: ClassVar[str] = "listener"
    about: ClassVar[str] = (
        "WhisperForConditionalGeneration; says what sounds, in which order and when, in 4 s of the world"
    )
    data: ClassVar[str] = "sound of the world and questions about it, made while it trains: no data of others"
    steps: ClassVar[int] = 3200
    goals: ClassVar[tuple[Goal, ...]] = (
        *(Goal(metric=kind, better="higher", bound=0.9) for kind in ("which", "what", "order", "ends", "then", "when")),
        Goal(metric="which_silent", better="lower", bound=0.35),
        Goal(metric="order_silent", better="lower", bound=0.65),
        Goal(metric="when_silent", better="lower", bound=0.2),
        Goal(metric="when_swapped", better="lower", bound=0.2),
    )

    @classmethod
    def build(cls) -> nn.Module:
        width = 64
        return WhisperForConditionalGeneration(
            WhisperConfig(
                vocab_size=len(WORDS),
                num_mel_bins=BANDS,
                d_model=width,
                encoder_layers=3,
                decoder_layers=3,
                encoder_attention_heads=4,
                decoder_attention_heads=4,
                encoder_ffn_dim=4 * width,
                decoder_ffn_dim=4 * width,
                max_source_positions=SECONDS * RATE // HOP // 2,
                max_target_positions=LONGEST,
                init_std=width**-0.5,
                dropout=0.0,
                pad_token_id=PAD,
                bos_token_id=START,
                eos_token_id=END,
                decoder_start_token_id=START,
                suppress_tokens=None,
                begin_suppress_tokens=None,
            )
        )

    @classmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        world = _world(seed)
        device = next(model.parameters()).device
        hits: dict[str, list[float]] = {}

        def loss_at(step: int) -> Tensor:
            shots = [world.shot(step * CLIPS + place) for place in range(CLIPS)]
            heard = _encoded(model, torch.from_numpy(hear_many(shots, SECONDS, rate=RATE)).to(device))
            short = [(place, each) for place, shot in enumerate(shots) for each in _lesson(shot, step)]
            long = [(place, each) for place, shot in enumerate(shots[: CLIPS // 2]) for each in _story(shot)]
            loss = torch.zeros((), device=device)
            for group in (short, long):
                words, labels = _pages([each for _, each in group])
                logits = _read(model, heard[[place for place, _ in group]], words.to(device))
                labels = labels.to(device)
                wrong = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
                loss = loss + (wrong.sum(1) / (labels != -100).sum(1)).mean()
                good = ((logits.argmax(-1) == labels) | (labels == -100)).all(1).tolist()
                for (_, each), right in zip(group, good, strict=True):
                    hits.setdefault(each.kind, []).append(right)
            return loss

        def watch() -> str:
            words = "  ".join(f"{kind} {np.mean(right):.2f}" for kind, right in sorted(hits.items()))
            hits.clear()
            return words

        descend(model, loss_at, steps=steps, learning_rate=3e-3, log=log, watch=watch, warmup=100, every=100)

    def ask(self, samples: NDArray[np.float32], question: str, *, rate: int) -> str:
        """The answer to a question about a clip (samples,) of 4 s or less; see `ask_many`."""
        return self.ask_many(np.asarray(samples)[None], [question], [0], rate=rate)[0]

    def inputs(self, samples: NDArray[np.float32], text: str, *, rate: int) -> dict[str, Tensor]:
        """Keyword arguments of the class for one clip (samples,) and words that its decoder reads: `model(**inputs)`."""
        clip = torch.from_numpy(_resampled(np.asarray(samples)[None], rate)).to(self.device)
        words = torch.tensor([[START, *encode(text)]], device=self.device)
        return {"input_features": log_mel(clip), "decoder_input_ids": words}

    @torch.no_grad()
    def ask_many(
        self, samples: NDArray[np.float32], asked: Sequence[str], clip: Sequence[int], *, rate: int
    ) -> list[str]:
        """Answers to questions; question i is about clip `clip[i]` of `samples` (clips, samples), each heard once.

        Clips are mono, -1 to 1, of 4 s or less, and silent afterwards; another rate than 8 kHz is resampled to it.
        Questions are in the words of `attime.streams.world.WORDS`. Answers are the most likely ones.
        """
        clips = torch.from_numpy(_resampled(samples, rate)).to(self.device)
        if len(asked) != len(clip) or not all(0 <= each < len(clips) for each in clip):
            raise AttimeError(
                f"every question needs one of the {len(clips)} clips; got {len(asked)} questions about {clip}."
            )
        heard = _encoded(self.model, clips)
        prompts = [[START, *encode(text)] for text in asked]
        answers = [""] * len(asked)
        for length in {len(prompt) for prompt in prompts}:
            if length > LONGEST // 2:
                raise AttimeError(
                    f"the listener needs questions of {LONGEST // 2 - 1} words or less; got {length - 1}."
                )
            rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
            words = torch.tensor([prompts[row] for row in rows], device=self.device)
            said = _answered(self.model, heard[[clip[row] for row in rows]], words)
            for row, numbers in zip(rows, said, strict=True):
                answers[row] = decode(numbers)
        return answers

    def measure(self, *, seed: int) -> dict[str, float]:
        """Of each kind of question the share of right answers, and the same for silence and for the sound of the next clip.

        `when` is right where the interval and the true one share 0.7 of their union, `story` where every word is.
        `which_chance`, `order_chance` and so on are the shares right of somebody who guesses among the options.
        """
        world = _world(seed)
        shots = [world.shot(number) for number in range(MEASURED)]
        asked = [(place, each) for place, shot in enumerate(shots) for each in [*_asked(shot, seed), *_story(shot)]]
        samples = hear_many(shots, SECONDS, rate=RATE)
        numbers = {}
        heard: Mapping[str, NDArray[np.float32]] = {
            "": samples,
            "_silent": np.zeros_like(samples),
            "_swapped": np.roll(samples, 1, axis=0),
        }
        for ending, clips in heard.items():
            short = [(place, each) for place, each in asked if not ending or each.kind != "story"]
            said = self.ask_many(clips, [each.text for _, each in short], [place for place, _ in short], rate=RATE)
            right = [_right(each, answer) for (_, each), answer in zip(short, said, strict=True)]
            for kind in sorted({each.kind for _, each in short}):
                of_kind = [good for (_, each), good in zip(short, right, strict=True) if each.kind == kind]
                numbers[f"{kind}{ending}"] = float(np.mean(of_kind))
        for kind in sorted({each.kind for _, each in asked if each.options}):
            numbers[f"{kind}_chance"] = float(np.mean([each.chance for _, each in asked if each.kind == kind]))
        return numbers


def _encoded(model: nn.Module, samples: Tensor) -> Tensor:
    """What the encoder makes of clips (clips, samples): (clips, 50, dim)."""
    return model.get_submodule("model.encoder")(log_mel(samples)).last_hidden_state


def _read(model: nn.Module, heard: Tensor, words: Tensor) -> Tensor:
    """Scores of the next word after every word; row by row, `heard` is the clip that the words are about."""
    return model(
        encoder_outputs=BaseModelOutput(last_hidden_state=heard), decoder_input_ids=words, use_cache=False
    ).logits


def _pages(asked: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Words (questions, length) that the decoder reads, and those that it should say, -100 where nobody listens."""
    rows = []
    for q in asked:
        prompt, answer = [START, *encode(q.text)], [*encode(q.answer), END]
        rows.append((prompt + answer[:-1], [-100] * (len(prompt) - 1) + answer))
    longest = max(len(words) for words, _ in rows)
    words = torch.tensor([row + [PAD] * (longest - len(row)) for row, _ in rows])
    labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in rows])
    return words, labels


def _answered(model: nn.Module, heard: Tensor, words: Tensor) -> list[list[int]]:
    """The words that follow each prompt (rows, length), the most likely one at every step, up to the end."""
    said: list[list[int]] = [[] for _ in words]
    open_rows, past = set(range(len(words))), None
    for _ in range(LONGEST - words.shape[1]):
        out = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=heard),
            decoder_input_ids=words,
            past_key_values=past,
            use_cache=True,
        )
        words, past = out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values
        for row in list(open_rows):
            number = int(words[row, 0])
            if number == END:
                open_rows.remove(row)
            else:
                said[row].append(number)
        if not open_rows:
            break
    return said


def _right(asked: Question, answer: str) -> bool:
    """Whether it is the answer; an interval is if it and the true one share 0.7 of their union."""
    if asked.kind != "when":
        return answer == asked.answer
    found, true = (re.fullmatch(r"from ([\d.]+) to ([\d.]+)", text) for text in (answer, asked.answer))
    if found is None or true is None:
        return False
    (start, stop), (begin, end) = ((float(each[1]), float(each[2])) for each in (found, true))
    shared = max(0.0, min(stop, end) - max(start, begin))
    return shared >= 0.7 * (max(stop, end) - min(start, begin))


def _resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Clips (clips, samples) at 8 kHz, silence after them up to 4 s."""
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 2 or not samples.size or not np.isfinite(samples).all():
        raise AttimeError(
            f"the listener needs mono samples, finite, clip by clip; got an array of sizes {samples.shape}."
        )
    if rate < RATE:
        raise AttimeError(f"the listener needs {RATE} samples per second or more; got rate={rate}.")
    if samples.shape[1] > SECONDS * rate:
        raise AttimeError(
            f"the listener hears {SECONDS} s at a time; got {samples.shape[1] / rate:g} s: cut it into pieces."
        )
    if rate != RATE:
        count = round(samples.shape[1] * RATE / rate)
        tones = np.fft.rfft(samples)[:, : count // 2 + 1]
        samples = (np.fft.irfft(tones, count) * (count / samples.shape[1])).astype(np.float32)
    return np.pad(samples, [(0, 0), (0, SECONDS * RATE - samples.shape[1])])
