"""What memories cost in quality, on the zoo's trained models: perplexity far beyond the training length, and needles found.

python benchmarks/memory_quality.py [--quick]        # quick: 16 training lengths, 96 needles

Perplexity is of the zoo's byte model (trained at 256 bytes) over the second half of a held-out text. Needles are looked up by
the zoo's recall model, all policies in equally many bytes: a share of what everything takes, evidence included.
"""

import math
from typing import Any

import torch

from attime import zoo
from attime.errors import AttimeError
from attime.hub import attach
from attime.hub.stream import stream
from attime.memory import Chain, chain
from attime.memory.evict import (
    Bytes,
    Evict,
    Expected,
    KeyNorm,
    LastQuery,
    ObservedWindow,
    PerHead,
    Random,
    Received,
    Recency,
    Score,
    SinkWindow,
)
from attime.memory.place import Contiguous
from attime.memory.quantize import Quantize
from attime.streams.text import standard_library
from timing import Table, quick

SEED, EVERY = 2_000_003, 8


def far(table: Table, times: int) -> None:
    """Goal 14, first half."""
    made: Any = zoo.load("bytes")
    length = int(made.model.config.max_position_embeddings)
    text = torch.from_numpy(standard_library().test[: times * length].copy()).long()
    half = len(text) // 2
    with attach(made.model) as attached:
        short = [list(stream(attached, [piece]))[-1].nats for piece in text[half:].split(length)]
    trained = math.exp(sum(short) / len(short))
    table.note(f"perplexity at the training length of {length}: {trained:.4f}")
    observed = Evict(score=ObservedWindow(window=32), budget=length, recent=64, every=32)
    policies = {
        "sinks + window": chain(SinkWindow(sinks=4, window=length - 4, every=32), Contiguous()),
        "window": chain(SinkWindow(sinks=0, window=length, every=32), Contiguous()),
        "window, positions as they were": chain(SinkWindow(sinks=0, window=length, every=32)),
        "observed attention": chain(observed, Contiguous()),
        "sinks + window, 4 bits": chain(
            SinkWindow(sinks=4, window=length - 4, every=32), Quantize(recent=32, every=32), Contiguous()
        ),
        "everything": chain(),
    }
    for name, policy in policies.items():
        with attach(made.model, policy) as attached:
            steps = list(stream(attached, text.split(length)))[times // 2 :]
        there = math.exp(sum(step.recent_nats for step in steps) / len(steps))
        goal = 1.05 if name == "sinks + window" else None
        table.ratio(f"at {times} lengths, {name}: / at one", there / trained, at_most=goal)
        table.note(f"  bytes held at the end {steps[-1].nbytes:>12,}   tokens / CPU s {steps[-1].rate:>8,.0f}")


def needles(table: Table, rows: int, share: float) -> None:
    """Goal 14, second half: recall of all policies in as many bytes."""
    from attime.zoo.recall import NEEDLE

    try:
        made: Any = zoo.load("recall")
    except AttimeError as error:
        table.note(f"needles are left out: {error}")
        return
    batch = next(NEEDLE.train(seed=SEED, batch=rows))
    full = _found(made, chain(), batch)
    total = int(share * full[1])
    table.note(f"needles found with everything: {full[0]:.3f} in {full[1]:,} bytes a row; now in {total:,}")
    scores: dict[str, Score] = {
        "Recency": Recency(),
        "Random": Random(),
        "KeyNorm": KeyNorm(),
        "LastQuery": LastQuery(),
        "ObservedWindow": ObservedWindow(window=8),
        "Received": Received(),
        "Expected": Expected(observed=32, ahead=64),
    }
    for name, score in scores.items():
        policy = chain(Evict(score=score, budget=Bytes(total=total), sinks=2, recent=2 * EVERY, every=EVERY))
        found, held = _found(made, policy, batch)
        table.note(f"  {name:<21} found {found:>6.3f}   bytes {held:>9,}")
    layers, heads = made.model.config.num_hidden_layers, made.model.config.num_key_value_heads
    best = int(made.heads(next(NEEDLE.train(seed=SEED + 1, batch=8)))[1].argmax())
    others = int((share * layers * heads - 1) / (layers * heads - 1) * NEEDLE.length) - 2
    budget = PerHead(heads=(divmod(best, heads),), others=others)
    found, held = _found(made, chain(Evict(score=Recency(), budget=budget, sinks=2, recent=EVERY, every=EVERY)), batch)
    table.note(f"  {'Recency, one head all':<21} found {found:>6.3f}   bytes {held:>9,}")
    for bits in (4, 2):
        found, held = _found(made, chain(Quantize(bits=bits, sinks=2, recent=EVERY, every=EVERY)), batch)
        table.note(f"  {f'Quantize, {bits} bits':<21} found {found:>6.3f}   bytes {held:>9,}")


def _found(made: Any, policy: Chain, batch: Any) -> tuple[float, int]:
    """Share of the needles found, and bytes held per row at the end."""
    with attach(made.model, policy) as attached:
        cache = attached.cache()
        logits = made.model(input_ids=batch.inputs, past_key_values=cache, logits_to_keep=1).logits[:, 0]
    right = (logits.argmax(-1) == batch.targets).double().mean()
    return float(right), cache.nbytes // len(batch.inputs)


@torch.inference_mode()
def main(*, small: bool) -> None:
    torch.set_num_threads(1)
    table = Table()
    far(table, 16 if small else 64)
    needles(table, 96 if small else 768, 0.25)
    table.show()


if __name__ == "__main__":
    main(small=quick(__doc__))
