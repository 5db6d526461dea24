"""The recall model: a tiny Llama that looks things up in its past, for whatever decides which past to keep.

It answers three tasks, of 64 to 512 tokens and some more, in one vocabulary of keys, values and noise:
    recall    key-value pairs first, then keys among noise: after each, its value       (tasks.Recall)
    needle    one pair anywhere in noise, among pairs with other keys; its key at last   (tasks.Needle)
    passages  distinct tokens in passages, then the passages again in another order: the next token of each

One head of sixteen fetches, and it is the recipe that makes it so: in half of the steps, and in all of the first lessons, the
other heads of a layer see a window of the last tokens only, two of them nothing but the token before. That is what lets the
pair of a head that looks one back and a head that looks for it form within a minute. From half of the steps on, heads that may
look far pay for it, so that those which have nothing to fetch look near.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
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
PASSAGE, DISTINCT = 16, 128  # tokens of a passage, and the most tokens of all passages of a row
LESSONS = ((32, 4), (64, 8), (128, PASSAGE))
"""Lengths, and tokens of a passage, of what is learnt one after the other, before all tasks at all lengths."""
PASSED = 0.7  # share of right answers with which a lesson is over
LENGTHS = (64, 128, LENGTH, 512)
TOKENS = 2048  # of a training step
WINDOWS = (2, 2, 4, 4, 8, 8, 16)
"""How many tokens the heads of a layer see where they may not look far; the head before them always may."""
NARROW_FROM, PRICE, PRICED = 0.5, 0.1, (64, 128)
"""From this share of the steps on, what looking further back than all windows costs, in rows of which lengths."""
MEASURED, SEEN = 768, 96  # rows scored, and rows whose attention is looked at


def passages(*, seed: int, batch: int, length: int = LENGTH, size: int = PASSAGE) -> Iterator[Batch]:
    """Endless batches of `batch` rows: distinct tokens, then their passages of `size` tokens once more in another order.

    Where a row is longer than twice `DISTINCT`, other tokens, in stretches as long as passages, lie between them.
    """
    generator = torch.Generator().manual_seed(seed)
    count = min(length // 2, DISTINCT) // size
    others = length // size - 2 * count
    place = torch.arange(length)
    scored = ((place % size != size - 1) & (place >= (count + others) * size)).expand(batch, -1)
    while True:
        kinds = torch.rand(batch, KINDS, generator=generator).argsort(dim=1)
        first = kinds[:, : count * size].unflatten(1, (count, size))
        order = torch.rand(batch, count, generator=generator).argsort(dim=1)
        again = first.gather(1, order[..., None].expand_as(first))
        if others:
            drawn = torch.randint(DISTINCT, KINDS, (batch, others * size), generator=generator)
            first = torch.cat([first, kinds.gather(1, drawn).unflatten(1, (others, size))], dim=1)
            order = torch.rand(batch, count + others, generator=generator).argsort(dim=1)
            first = first.gather(1, order[..., None].expand_as(first))
        inputs = torch.cat([first.flatten(1), again.flatten(1)], dim=1)
        yield Batch(inputs=inputs, targets=inputs.roll(-1, 1)[scored], scored=scored)


@final
class Recaller(Pretrained):
    """A Llama-class model of 0.2 M parameters that retrieves by attention (see the module docstring)."""

    name: ClassVar[str] = "recall"
    about: ClassVar[str] = "LlamaForCausalLM; names the value of a key and goes on with a passage seen before"
    data: ClassVar[str] = "keys, values and noise, drawn while it trains: no data of others"
    steps: ClassVar[int] = 2400
    goals: ClassVar[tuple[Goal, ...]] = (
        *(Goal(metric=task, better="higher", bound=0.99) for task in ("recall", "needle", "passages")),
        Goal(metric="induction_best", better="higher", bound=0.5),
        Goal(metric="induction_mean", better="lower", bound=0.3),
        Goal(metric="retrieval_best", better="higher", bound=0.5),
        Goal(metric="retrieval_mean", better="lower", bound=0.3),
        Goal(metric="retrieval_share", better="lower", bound=0.15),
        Goal(metric="worst_64", better="higher", bound=0.99),
        Goal(metric="worst_512", better="higher", bound=0.97),
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
                num_attention_heads=1 + len(WINDOWS),
                num_key_value_heads=1 + len(WINDOWS),
                head_dim=32,
                max_position_embeddings=LENGTHS[-1],
                rope_parameters={
                    "rope_type": "llama3",
                    "rope_theta": 500.0,  # many frequencies that tell neighbours apart
                    "factor": 1000.0,  # and the slow half of them stands still: what is looked for is found at any distance
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 128,
                },
                initializer_range=width**-0.5,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=None,
            )
        )

    @classmethod
    def fit(cls, model: nn.Module, *, steps: int, seed: int, log: Log) -> None:
        assert isinstance(model, LlamaForCausalLM)
        device = next(model.parameters()).device
        first = [
            {length: {"passages": passages(seed=seed, batch=TOKENS // length, length=length, size=size)}}
            for length, size in LESSONS
        ]
        lessons = [*first, {length: _drawn(seed, length) for length in LENGTHS}]
        masks = {length: _near(length).to(device) for lesson in lessons for length in lesson}
        lesson, hits = 0, dict[str, float]()

        def loss_at(step: int) -> Tensor:
            nonlocal lesson
            if lesson < len(first) and hits.get("passages", 0.0) >= PASSED:
                lesson += 1
                hits.clear()
            length = list(lessons[lesson])[step % len(lessons[lesson])]
            near = lesson < len(first) or step // len(LENGTHS) % 2
            batches = {name: next(stream) for name, stream in lessons[lesson][length].items()}
            inputs, scored = (
                torch.cat([getattr(batch, name) for batch in batches.values()]).to(device)
                for name in ("inputs", "scored")
            )
            priced = not near and length in PRICED and step >= NARROW_FROM * steps
            model.set_attn_implementation("eager" if priced else "sdpa")
            mask = masks[length] if near else None
            read = model.model(input_ids=inputs, attention_mask=mask, use_cache=False, output_attentions=priced)
            said = model.lm_head(read.last_hidden_state[scored]).split([len(each.targets) for each in batches.values()])
            loss = PRICE * _far(read.attentions) if priced else torch.zeros((), device=device)
            for (name, batch), logits in zip(batches.items(), said, strict=True):
                targets = batch.targets.to(device)
                loss = loss + functional.cross_entropy(logits, targets)
                right = float((logits.argmax(-1) == targets).float().mean())
                hits[name] = 0.9 * hits.get(name, 0.0) + 0.1 * right
            return loss

        def watch() -> str:
            return f"lesson {lesson}  " + "  ".join(f"{name} {right:.2f}" for name, right in hits.items())

        descend(model, loss_at, steps=steps, learning_rate=5e-3, log=log, muon="layers.", watch=watch, every=100)
        model.set_attn_implementation("sdpa")

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
        numbers = {name: self._right(batch) for name, batch in batches.items()}
        for length in (LENGTHS[0], LENGTHS[-1]):
            streams = _drawn(seed, length, tokens=MEASURED * LENGTH // 2)
            numbers[f"worst_{length}"] = min(self._right(next(stream)) for stream in streams.values())
        induction, _ = self.heads(batches["passages"])
        _, retrieval = self.heads(batches["needle"])
        for name, score in {"induction": induction, "retrieval": retrieval}.items():
            numbers |= {f"{name}_best": float(score.max()), f"{name}_mean": float(score.mean())}
        return numbers | {"retrieval_share": float((retrieval > 0.1).float().mean())}

    def _right(self, batch: Batch) -> float:
        return float((self.predict(batch).argmax(-1) == batch.targets).double().mean())

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


def _drawn(seed: int, length: int, tokens: int = TOKENS) -> dict[str, Iterator[Batch]]:
    """The three tasks at a length, half of the tokens passages."""
    rows = max(2, tokens // length // 4)
    return {
        "passages": passages(seed=seed, batch=2 * rows, length=length),
        "recall": replace(RECALL, length=length).train(seed=seed, batch=rows),
        "needle": replace(NEEDLE, length=length).train(seed=seed, batch=rows),
    }


def _near(length: int) -> Float[Tensor, "1 heads query key"]:
    """What is added to the scores of the heads of a layer, so that all but the first see no more than their windows."""
    place = torch.arange(length)
    back = place[:, None] - place
    seen = torch.tensor([length, *WINDOWS])[:, None, None]
    return torch.zeros(1, len(seen), length, length).masked_fill((back < 0) | (back >= seen), -torch.inf)


def _far(maps: Sequence[Float[Tensor, "batch heads query key"]]) -> Tensor:
    """Square roots of the attention that each head pays to what is far, summed over heads: least where few do it all."""
    place = torch.arange(maps[0].shape[-1], device=maps[0].device)
    away = (place[:, None] - place >= max(WINDOWS)).float()
    return torch.stack([((each * away).sum(-1).mean((0, 2)) + 1e-4).sqrt().sum() for each in maps]).sum()
