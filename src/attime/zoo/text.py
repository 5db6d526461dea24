"""The bytes model: a Llama that has read the source of Python's standard library, byte after byte.

It is scored on the library's held-out files as `tasks.Text` scores them, beside counting (a Witten-Bell 5-gram of the same
training files), and on whether what it writes is Python so far.
"""

import codeop
import math
import warnings
from collections.abc import Callable, Sequence
from typing import ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.streams.text import Corpus, standard_library
from attime.tasks.contract import Batch, Predictor
from attime.tasks.text import Text
from attime.zoo.contract import Goal, Log, Pretrained
from attime.zoo.descend import descend

__all__ = ["Bytes"]

KINDS, NEWLINE = 256, 10
LENGTH = 256  # bytes of a training window
ROWS = 16  # windows of a training step
FLOOR = "5-gram"
MEASURED, GROUP = 192, 4  # windows scored, and how many of them stand together
SAMPLES, SAMPLE, LINES = 48, 320, 4  # functions begun, bytes of each, and the different lines that it must have
OPENING = b"\ndef "
TEMPERATURE = 0.6


@final
class Bytes(Pretrained):
    """A Llama-class model of 3 M parameters that reads and writes bytes (see the module docstring)."""

    name: ClassVar[str] = "bytes"
    about: ClassVar[str] = "LlamaForCausalLM over bytes; reads and writes Python source"
    data: ClassVar[str] = (
        "the source of Python's standard library (PSF licence), without its tests; files split by name"
    )
    steps: ClassVar[int] = 1600
    goals: ClassVar[tuple[Goal, ...]] = (
        Goal(metric="below_floor", better="higher", bound=0.4),
        Goal(metric="python_share", better="higher", bound=0.5),
    )

    @classmethod
    def build(cls) -> nn.Module:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=KINDS,
                hidden_size=256,
                intermediate_size=688,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=LENGTH,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)  # every layer starts as the identity
        return model

    @classmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        device = next(model.parameters()).device
        train = torch.from_numpy(standard_library().train.copy())
        generator = torch.Generator().manual_seed(seed)
        waiting: list[Tensor] = []

        def loss_at(step: int) -> Tensor:
            if not waiting:  # an epoch: the text in windows that do not overlap, cut anew, in random order
                first = int(torch.randint(LENGTH, (), generator=generator))
                places = torch.arange(first, len(train) - LENGTH, LENGTH)
                waiting.extend(places[torch.randperm(len(places), generator=generator)].split(ROWS)[:-1])
            windows = train[waiting.pop()[:, None] + torch.arange(LENGTH + 1)].long().to(device)
            with torch.autocast(device.type, torch.bfloat16):
                logits = model(input_ids=windows[:, :-1], use_cache=False).logits
            return functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())

        assert isinstance(model, LlamaForCausalLM)
        model.set_attn_implementation("eager")  # at this length its backward is the faster one on a CPU
        descend(model, loss_at, steps=steps, learning_rate=3e-3, log=log, muon="layers.", betas=(0.9, 0.95), every=100)
        model.set_attn_implementation("sdpa")

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Logits (scored, 256) at the scored places of a batch of `Text`: any such task can score this model."""
        rows = batch.inputs.to(self.device).split(32)
        logits = torch.cat([self.model(input_ids=each, use_cache=False).logits.float() for each in rows])
        return logits[batch.scored.to(self.device)].cpu()

    def nats(self, data: bytes | str | NDArray[np.uint8]) -> float:
        """Mean nats per byte of `data`, at least 2 bytes, read in windows of the training length that half overlap."""
        text = np.frombuffer(data.encode() if isinstance(data, str) else bytes(data), np.uint8)
        if len(text) < 2:
            raise AttimeError(f"Bytes.nats needs at least 2 bytes; got {len(text)}: give it more text.")
        window = min(LENGTH, len(text) - 1)
        task = Text(corpus=Corpus(name="given", train=text, valid=text, test=text), window=window, overlap=window // 2)
        return task.score(self.predict)["nats"]

    def write(self, prompt: str, *, length: int = 256, temperature: float = TEMPERATURE, seed: int = 0) -> str:
        """What follows `prompt`: `length` more bytes, drawn at `temperature` (0: always the likeliest byte)."""
        start = list(prompt.encode())
        if not start or length < 1 or temperature < 0:
            raise AttimeError(
                f"Bytes.write needs a prompt of at least one byte, length >= 1 and temperature >= 0; got a prompt of "
                f"{len(start)} bytes, length={length}, temperature={temperature}: to begin a file, prompt with a newline."
            )
        made = _written(self._following(), torch.tensor([start]), length, temperature, seed)
        return made[0].decode(errors="replace")

    def measure(self, *, seed: int) -> dict[str, float]:
        task = Text.of(standard_library(), window=LENGTH, overlap=LENGTH // 2, orders=5)
        floor = task.floors()[FLOOR]
        generator = torch.Generator().manual_seed(seed)
        groups = list(task.split("test", batch=GROUP))
        chosen = [groups[place] for place in torch.randperm(len(groups), generator=generator)[: MEASURED // GROUP]]
        nats, floor_nats = (_mean_nats(task, predict, chosen) for predict in (self.predict, floor))
        prompts = _openings(task.corpus.test, generator)
        share = _python_share(_written(self._following(), prompts, SAMPLE, TEMPERATURE, seed))
        floor_share = _python_share(_written(_counting(floor), prompts, SAMPLE, TEMPERATURE, seed))
        return {
            "nats": nats,
            "floor_nats": floor_nats,
            "below_floor": floor_nats - nats,
            "bits": nats / math.log(2),
            "python_share": share,
            "floor_python_share": floor_share,
        }

    def _following(self) -> "Follow":
        """Logits of the next byte; the past stays in the model's own cache until the training length is reached."""
        cache = None

        def follow(tokens: Tensor) -> Tensor:
            nonlocal cache
            if cache is None or cache.get_seq_length() >= LENGTH:
                cache, tokens = None, tokens[:, -LENGTH // 2 :]
            else:
                tokens = tokens[:, -1:]
            with torch.no_grad():
                out = self.model(input_ids=tokens.to(self.device), past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            return out.logits[:, -1].float().cpu()

        return follow


Follow = Callable[[Tensor], Tensor]
"""From all tokens so far (batch time), one more at each call, to logits of the next (batch 256)."""


def _written(follow: Follow, tokens: Tensor, length: int, temperature: float, seed: int) -> list[bytes]:
    """`length` more bytes for each row of tokens."""
    generator = torch.Generator().manual_seed(seed)
    start = tokens.shape[1]
    for _ in range(length):
        logits = follow(tokens)
        if temperature:
            following = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        else:
            following = logits.argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, following], dim=1)
    return [bytes(row) for row in tokens[:, start:].tolist()]


def _counting(floor: Predictor) -> Follow:
    def follow(tokens: Tensor) -> Tensor:
        inputs = tokens[:, -LENGTH:]
        scored = torch.zeros_like(inputs, dtype=torch.bool)
        scored[:, -1] = True
        return floor(Batch(inputs=inputs, targets=inputs[:, -1], scored=scored))

    return follow


def _mean_nats(task: Text, predict: Predictor, batches: Sequence[Batch]) -> float:
    tallies = [task.tally(predict(batch), batch)["nats"] for batch in batches]
    return sum(total for total, _ in tallies) / sum(count for _, count in tallies)


def _openings(text: NDArray[np.uint8], generator: torch.Generator) -> Tensor:
    """Prompts: half a window of unseen source up to where a function opens."""
    found, whole, place = list[int](), text.tobytes(), 0
    while (place := whole.find(OPENING, place + 1)) >= 0:
        found.append(place + len(OPENING))
    found = [place for place in found if place >= LENGTH // 2]
    chosen = torch.randperm(len(found), generator=generator)[:SAMPLES].tolist()
    return torch.tensor([list(whole[found[each] - LENGTH // 2 : found[each]]) for each in chosen])


def _python_share(written: Sequence[bytes]) -> float:
    """The share of functions that are Python as far as they go, some lines long: no finished line breaks the grammar."""
    return sum(_is_python(OPENING + each) for each in written) / len(written)


def _is_python(source: bytes) -> bool:
    finished = source[: source.rfind(b"\n") + 1]
    if len({line.strip() for line in finished.splitlines()} - {b""}) < LINES:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codeop.compile_command(finished.decode(), symbol="exec")
    except (SyntaxError, ValueError, OverflowError):
        return False
    return True
