"""What memories cost in quality, on the zoo's trained models: perplexity far beyond the training length, and needles found.

python benchmarks/memory_quality.py [--quick] [--kvpress PYTHON]        # quick: 16 training lengths, 96 needles

Perplexity is of the zoo's byte model (trained at 256 bytes) over the second halves of stretches of held-out text. Needles are
looked up by the zoo's recall model, all policies in equally many bytes: a share of what everything takes, evidence included.
kvpress, in an environment of its own (see `memory.py`), drops once, after the prompt: it is compared with the same scores that
do so too, and with those that keep to the budget from the first token on.
"""

import argparse
import json
import math
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
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
from timing import Table

SEED, EVERY = 2_000_003, 8
STRETCHES = 8


def far(table: Table, times: int) -> None:
    """Goal 14, first half."""
    made: Any = zoo.load("bytes")
    length = int(made.model.config.max_position_embeddings)
    test = torch.from_numpy(standard_library().test.copy()).long()
    texts = test.unfold(0, times * length, (len(test) - times * length) // (STRETCHES - 1))
    with attach(made.model) as attached:
        pieces = texts[:, texts.shape[1] // 2 :].unflatten(1, (-1, length)).flatten(0, 1)
        short = [list(stream(attached, [piece]))[-1].nats for piece in pieces]
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
            steps = [step for text in texts for step in list(stream(attached, text.split(length)))[times // 2 :]]
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


def like_for_like(table: Table, rows: int, share: float, kvpress: str) -> None:
    """Goal 14, its last part: the same scores as kvpress's presses, in as many entries."""
    from attime.zoo.recall import NEEDLE

    made: Any = zoo.load("recall")
    batch = next(NEEDLE.train(seed=SEED, batch=rows))
    prompt = batch.inputs.shape[1] - 1
    kept = int(share * prompt)
    with tempfile.TemporaryDirectory() as folder:
        made.model.save_pretrained(folder)
        torch.save({"inputs": batch.inputs, "targets": batch.targets}, Path(folder) / "needles.pt")
        script = str(Path(__file__).parent / "memory_kvpress.py")
        out = subprocess.run([kvpress, script, folder, str(kept)], capture_output=True, text=True, check=True).stdout
    scores: dict[str, tuple[Score, int]] = {
        "StreamingLLMPress": (Recency(), 4),
        "KnormPress": (KeyNorm(), 0),
        "TOVAPress": (LastQuery(), 0),
        "SnapKVPress": (ObservedWindow(window=8), 0),
        "ObservedAttentionPress": (Received(per_query=True), 0),
        "ExpectedAttentionPress": (Expected(observed=prompt - 4), 4),
    }
    table.note(
        f"needles found with {kept} of {prompt} entries kept: kvpress, the same score as late, for the whole life"
    )
    for name, theirs in json.loads(out.splitlines()[-1]).items():
        score, sinks = scores[name]
        last = score.window if isinstance(score, ObservedWindow) else 1
        once = Evict(score=score, budget=kept + prompt, sinks=sinks, recent=last, every=prompt)
        late, _ = _found(made, chain(once), batch)
        life, _ = _found(made, chain(replace(once, budget=kept, every=EVERY)), batch)
        table.ratio(f"  {name} {theirs:.3f}, ours {late:.3f}, {life:.3f}: theirs - ours", theirs - late, at_most=0.01)


def _found(made: Any, policy: Chain, batch: Any) -> tuple[float, int]:
    """Share of the needles found, and bytes held per row at the end."""
    with attach(made.model, policy) as attached:
        cache = attached.cache()
        logits = made.model(input_ids=batch.inputs, past_key_values=cache, logits_to_keep=1).logits[:, 0]
    right = (logits.argmax(-1) == batch.targets).double().mean()
    return float(right), cache.nbytes // len(batch.inputs)


@torch.inference_mode()
def main(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    table, rows = Table(), 96 if options.quick else 768
    far(table, 16 if options.quick else 64)
    needles(table, rows, 0.25)
    if options.kvpress is not None:
        like_for_like(table, rows, 0.25, options.kvpress)
    table.show()


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="16 training lengths, 96 needles")
    words.add_argument("--kvpress", metavar="PYTHON", help="the interpreter of an environment with kvpress 0.5.5")
    main(words.parse_args())
