"""The recall model: a tiny Llama that looks things up in its past, for whatever decides which past to keep.

It answers three tasks of 256 tokens in one vocabulary of keys, values and noise:
    recall    key-value pairs first, then keys among noise: after each, its value       (tasks.Recall)
    needle    one pair anywhere in noise, among pairs with other keys; its key at last   (tasks.Needle)
    passages  distinct tokens in passages, then the passages again in another order: the next token of each
"""

from collections.abc import Iterator
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from attime.errors import AttimeError
from attime.tasks.contract import Batch
from attime.tasks.needle import Needle
from attime.tasks.recall import Recall
from attime.zoo.contract import Goal, Log, Pretrained
from attime.zoo.descend import descend

__all__ = ["NEEDLE", "RECALL", "Recaller", "passages"]

LENGTH = 256
KEYS, VALUES, NOISE = 64, 64, 64
KINDS = KEYS + VALUES + NOISE
RECALL = Recall(length=LENGTH, vocabulary=KEYS + VALUES, pairs=16)
NEEDLE = Needle(length=LENGTH, keys=KEYS, values=VALUES, noise=NOISE, decoys=7)
PASSAGE = 16  # tokens of a passage
LESSONS = ((32, 4), (64, 8), (128, 16), (LENGTH, 16), (LENGTH, 8))
"""Lengths, and tokens of a passage, of what is learnt one after the other; the last one never ends."""
PASSED = 0.95  # share of right answers with which a lesson is over
TOKENS = 4096  # of a training step
MEASURED, SEEN = 768, 96  # rows scored, and rows whose attention is looked at


def passages(*, seed: int, batch: int, length: int = LENGTH, size: int = PASSAGE) -> Iterator[Batch]:
    """Endless batches of `batch` rows: distinct tokens, then their passages of `size` tokens once more in another order."""
    generator = torch.Generator().manual_seed(seed)
    count = length // 2 // size
    inside = torch.arange(length) % size != size - 1
    scored = (inside & (torch.arange(length) >= length // 2)).expand(batch, -1)
    while True:
        kinds = torch.rand(batch, KINDS, generator=generator).argsort(dim=1)
        first = kinds[:, : count * size].unflatten(1, (count, size))
        order = torch.rand(batch, count, generator=generator).argsort(dim=1)
        again = first.gather(1, order[..., None].expand_as(first))
        inputs = torch.cat([first.flatten(1), again.flatten(1)], dim=1)
        yield Batch(inputs=inputs, targets=inputs.roll(-1, 1)[scored], scored=scored)


@final
class Recaller(Pretrained):
    """A Llama-class model of 0.1 M parameters that retrieves by attention (see the module docstring)."""

    name: ClassVar[str] = "recall"
    about: ClassVar[str] = "LlamaForCausalLM; names the value of a key and goes on with a passage seen before"
    data: ClassVar[str] = "keys, values and noise, drawn while it trains: no data of others"
    steps: ClassVar[int] = 5000
    goals: ClassVar[tuple[Goal, ...]] = (
        *(Goal(metric=task, better="higher", bound=0.99) for task in ("recall", "needle", "passages")),
        Goal(metric="induction_best", better="higher", bound=0.5),
        Goal(metric="induction_mean", better="lower", bound=0.3),
        Goal(metric="retrieval_best", better="higher", bound=0.5),
        Goal(metric="retrieval_mean", better="lower", bound=0.3),
    )

    @classmethod
    def build(cls) -> nn.Module:
        width = 64
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=KINDS,
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                head_dim=32,  # fewer cannot tell 192 kinds apart
                max_position_embeddings=LENGTH,
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 100.0,
                },  # more frequencies that tell neighbours apart
                initializer_range=width**-0.5,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=None,
            )
        )

    @classmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        device = next(model.parameters()).device
        lessons = [
            {"passages": passages(seed=seed, batch=TOKENS // length, length=length, size=size)}
            for length, size in LESSONS
        ]
        rows = TOKENS // LENGTH // 2
        lessons[-1] |= {
            name: task.train(seed=seed, batch=rows) for name, task in (("recall", RECALL), ("needle", NEEDLE))
        }
        lesson, hits = 0, dict[str, float]()

        def loss_at(step: int) -> Tensor:
            nonlocal lesson
            if lesson + 1 < len(lessons) and hits.get("passages", 0.0) >= PASSED:
                lesson += 1
                hits.clear()
            batches = {name: next(stream) for name, stream in lessons[lesson].items()}
            inputs = torch.cat([batch.inputs for batch in batches.values()]).to(device)
            outputs = model(input_ids=inputs, use_cache=False).logits
            loss, start = torch.zeros((), device=device), 0
            for name, batch in batches.items():
                rows = outputs[start : start + len(batch.inputs)]
                start += len(batch.inputs)
                logits, targets = rows[batch.scored.to(device)], batch.targets.to(device)
                loss = loss + functional.cross_entropy(logits, targets)
                right = float((logits.argmax(-1) == targets).float().mean())
                hits[name] = 0.9 * hits.get(name, 0.0) + 0.1 * right
            return loss

        def watch() -> str:
            return f"lesson {lesson}  " + "  ".join(f"{name} {right:.2f}" for name, right in hits.items())

        descend(model, loss_at, steps=steps, learning_rate=1e-2, log=log, muon="layers.", watch=watch, every=100)

    @torch.no_grad()
    def answer(self, inputs: Int[Tensor, "batch time"], *, length: int = 1) -> Int[Tensor, "batch length"]:
        """The likeliest `length` tokens after each row: a value after a key, or how a passage goes on."""
        if (
            inputs.ndim != 2
            or not inputs.shape[1]
            or length < 1
            or not 0 <= int(inputs.min()) <= int(inputs.max()) < KINDS
        ):
            raise AttimeError(
                f"Recaller.answer needs tokens from 0 to {KINDS - 1} in a tensor (batch time) and length >= 1; got sizes "
                f"{tuple(inputs.shape)}, length={length}: draw them from attime.zoo.recall.NEEDLE, say."
            )
        cache, following, said = None, inputs.to(self.device), list[Tensor]()
        for _ in range(length):
            out = self.model(input_ids=following, past_key_values=cache, use_cache=True)
            cache, following = out.past_key_values, out.logits[:, -1:].argmax(-1)
            said.append(following)
        return torch.cat(said, dim=1).cpu()

    @torch.no_grad()
    def predict(self, batch: Batch) -> Tensor:
        """Logits (scored, 192) at the scored places of a batch: `RECALL` and `NEEDLE` can score this model."""
        rows = [self.model(input_ids=each.to(self.device), use_cache=False).logits for each in batch.inputs.split(64)]
        return torch.cat(rows)[batch.scored.to(self.device)].float().cpu()

    def measure(self, *, seed: int) -> dict[str, float]:
        drawn = {"recall": RECALL.train, "needle": NEEDLE.train, "passages": passages}
        batches = {name: next(stream(seed=seed, batch=MEASURED)) for name, stream in drawn.items()}
        numbers = {
            name: float((self.predict(batch).argmax(-1) == batch.targets).double().mean())
            for name, batch in batches.items()
        }
        induction, _ = self.heads(batches["passages"])
        _, retrieval = self.heads(batches["needle"])
        for name, score in {"induction": induction, "retrieval": retrieval}.items():
            numbers |= {f"{name}_best": float(score.max()), f"{name}_mean": float(score.mean())}
        return numbers

    @torch.no_grad()
    def heads(self, batch: Batch) -> tuple[Float[Tensor, "layers heads"], Float[Tensor, "layers heads"]]:
        """Two scores of every head at the scored places of the first rows of a batch of the three tasks.

        The attention that goes to the token after the first one of this kind (induction), and how often most of the
        attention to any one place goes there (retrieval).
        """
        assert isinstance(self.model, LlamaForCausalLM)
        self.model.set_attn_implementation("eager")
        given, top = list[Tensor](), list[Tensor]()
        for inputs, scored in zip(batch.inputs[:SEEN].split(8), batch.scored[:SEEN].split(8), strict=True):
            row, place = scored.nonzero(as_tuple=True)
            after = (inputs[row] == inputs[row, place][:, None]).to(torch.int8).argmax(dim=1) + 1
            maps = self.model(input_ids=inputs.to(self.device), use_cache=False, output_attentions=True).attentions
            read = torch.stack([each[row, :, place].float().cpu() for each in maps])  # layers scored heads places
            given.append(read[:, torch.arange(len(row)), :, after].transpose(0, 1))
            top.append(read.argmax(-1) == after[None, :, None])
        self.model.set_attn_implementation("sdpa")
        return torch.cat(given, dim=1).mean(1), torch.cat(top, dim=1).float().mean(1)
