"""CacheGen: a cache of keys and values as a short stream of bits, at whatever level the line allows.

Claim:   differences from anchor tokens, bins by layer and a symbol table per layer and channel make a cache 3.7 to 4.3 times
         smaller than rounding alone at similar quality; choosing the level chunk by chunk keeps a deadline on a bad line.
Parts:   memory.coded.Coder, memory.coded.Level, memory.coded.sending.send; cache.save(path, coder=...)
Proof:   the zoo's byte model reads held-out Python. Its coded cache must come back bit for bit as codes; its bits per value,
         all told, must be fewer than the codes' entropy with one table per layer, that fewer than their fixed length, and
         the fixed length 3.7 times theirs; the next bytes must be guessed as well as from the exact cache within 1 point,
         from a file under a quarter of its size. On random lines the adapting sender must keep the deadline in 95 % of
         cases, any fixed level that is as fine as its usual one in less than 80 %.
Differs: the factor is not found: 4.30 bits where a fixed length takes 4.99 (1.16 times; 8 bits, 1.9 times). A byte's keys and
         values are hardly like its neighbour's: differences from anchors cost more than the numbers alone and are less
         exact (both are shown). All else holds. A tiny model; the line is simulated, with the real chunks' sizes.
"""

import math
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attime.hub import attach
from attime.memory.coded import Chunk, Coder, Level, Trace
from attime.memory.coded.sending import send
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library
from attime.zoo import load

PAPER = Paper(
    number=166,
    title="CacheGen: Fast Context Loading for Language Model Applications",
    url="https://arxiv.org/abs/2310.07240",
    parts=(Coder, Level, send),
)
WAIVED = {"the_claim_holds": "coded values take 4.30 bits, those of fixed length 4.99: 1.16 times smaller, not 3.7"}
FULL = {"rows": 32, "lines": 1000}
LEVELS = tuple(
    Level(keys=((1 / 3, a), (2 / 3, b), (1.0, c)), values=((1 / 16, a), (1.0, b)))
    for a, b, c in ((64, 32, 32), (32, 16, 16), (16, 16, 12), (12, 8, 8), (8, 4, 4))
)


@torch.inference_mode()
def run(*, rows: int = 8, chunk: int = 40, lines: int = 200, seed: int = 0) -> Verdict:
    """Bits of a coded cache, what the model still knows from it, and how often it arrives in time."""
    model: Any = load("bytes").model
    length: int = model.config.max_position_embeddings
    unseen, random, past = standard_library().test, np.random.default_rng(seed), 5 * chunk
    text = unseen[random.integers(len(unseen) - length, size=(rows, 1)) + np.arange(length)]
    text = torch.from_numpy(text).long()
    coder, numbers = Coder(chunk=chunk), dict[str, float]()
    with attach(model) as attached, TemporaryDirectory() as folder:
        cache = attached.cache()
        model(text[:, :past], past_key_values=cache)
        layers = [layer.pasts[0][1] for layer in cache.memory]
        pairs = [(each.banks[0].keys(), each.banks[0].values(), each.banks[0].lanes % each.heads) for each in layers]
        coded: list[Any] = [coder.bank(each.banks[0], each).stores[0] for each in layers]
        cache.save(Path(folder, "exact"))
        cache.save(Path(folder, "coded"), coder=coder)
        numbers["file, coded over exact"] = Path(folder, "coded").stat().st_size / Path(folder, "exact").stat().st_size
        again = attached.load(Path(folder, "coded"))
        for name, each in (("exact", cache), ("coded", again)):
            guess = model(text[:, past:], past_key_values=each).logits[:, :-1].argmax(-1)
            numbers[f"next byte right, {name}"] = float((guess == text[:, past + 1 :]).double().mean())
    exact, shares = True, []
    for depth, (each, pair) in enumerate(zip(coded, pairs, strict=True)):
        for name, x in zip(("keys", "values"), pair[:2], strict=True):
            bins = coder.level.bins(name, depth / len(pairs))
            found, made = each.codes(name), [coder.level.encode(part, bins) for part in x.split(chunk, dim=1)]
            exact &= torch.equal(found.others, torch.cat([part.others for part in made], dim=1))
            exact &= torch.equal(found.anchors, torch.cat([part.anchors for part in made], dim=1))
            scales = 16 / x.shape[2]
            one = 0.1 * _entropy(found.anchors) + 0.9 * _entropy(found.others) + scales
            shares.append((one, 0.1 * 8 + 0.9 * math.ceil(math.log2(bins - 1)) + scales))
    values = sum(x.numel() for pair in pairs for x in pair[:2])
    bits, (table, even) = 8 * sum(each.nbytes for each in coded) / values, map(mean, zip(*shares, strict=True))
    numbers |= {"bits a value": bits, "bits a value, one table a layer": table, "bits a value, fixed length": even}
    numbers["fixed length over coded"] = even / bits
    for name, group in (("differences", 10), ("alone", 0)):
        each = Coder(level=Level(keys=((1.0, 16),), values=((1.0, 16),), group=group), chunk=chunk)
        made = [each.encode(k, v, heads=heads, depth=0.0) for k, v, heads in pairs]
        off = [(one.keys() - k).norm() / k.norm() for one, (k, _, _) in zip(made, pairs, strict=True)]
        off += [(one.values() - v).norm() / v.norm() for one, (_, v, _) in zip(made, pairs, strict=True)]
        numbers[f"error at 16 bins, {name}"] = float(torch.stack(off).mean())
        numbers[f"bits at 16 bins, {name}"] = 8 * sum(one.nbytes for one in made) / values
    coders = [Coder(level=level, chunk=chunk) for level in LEVELS]
    places = [(depth / len(pairs), *pair) for depth, pair in enumerate(pairs)]
    made = [[each.encode(k, v, heads=h, depth=depth).chunks for depth, k, v, h in places] for each in coders]
    sizes_at = zip(*np.sum(made, axis=1), strict=True)
    chunks = [Chunk(sizes=tuple(map(int, each)), text=rows * chunk, seconds=1.0) for each in sizes_at] * 6
    rates = sum(each.sizes[1] for each in chunks) / 20 * np.exp(random.uniform(-1, 1, (lines, 64)))
    traces = [Trace(rates=tuple(each), step_s=2.0) for each in rates]
    sent = [send(chunks, line, deadline_s=20.0) for line in traces]
    fixed = [[send(chunks, line, deadline_s=20.0, level=level) for line in traces] for level in range(len(LEVELS))]
    numbers["level used, median"] = median(level for each in sent for level in each.levels)
    for name, each in {"adapting": sent, **{f"level {level}": each for level, each in enumerate(fixed)}}.items():
        numbers[f"in time, {name}"] = mean(float(one.seconds <= 20) for one in each)
    usual = numbers[f"in time, level {int(numbers['level used, median'])}"]
    wanted = {
        "exact": exact,
        "fewer bits": bits < table < even,
        "3.7 times smaller": numbers["fixed length over coded"] >= 3.7,
        "the model knows as much": numbers["next byte right, coded"] >= numbers["next byte right, exact"] - 0.01,
        "a small file": numbers["file, coded over exact"] < 0.25,
        "in time": numbers["in time, adapting"] >= 0.95 and usual < 0.8,
    }
    missed = [name for name, good in wanted.items() if not good]
    return Verdict(holds=not missed, numbers=numbers, reason=f"missed: {', '.join(missed)}" if missed else "")


def _entropy(codes: Tensor) -> float:
    """Bits of a code, if one table serves all channels."""
    share = torch.bincount(codes.flatten().long() + 128).double() / max(1, codes.numel())
    return float(-(share * share.clamp(min=1e-12).log2()).sum())
