"""DuoAttention: a gate per head, learnt with the model frozen, tells which heads need the far past; the others stream.

Claim:   half of the heads (a quarter without grouped queries) keep all of the past, the others sinks and recent tokens:
         accuracy stays, memory and time fall by that share.
Parts:   lens.gated_attention, lens.copied_share, hub.attending (the gates are learnt through it), memory.evict.Evict with
         Recency and PerHead, hub.attach (the past really is ragged)
Proof:   gates start at 1 and are learnt on the zoo's recall model by how far the last hidden state moves where an answer is
         due (a mean over its channels, as in the public code), plus 0.05 times their mean. With half of the heads full, needles
         in unseen rows are found as before (97 %), with as many random ones (draws beside their complements, so that every
         head is in half of them) fewer than 60 %. So they are with a quarter of the heads, among which are all retrieval heads
         (they fetch the answer, by copied_share); as many, picked by how far attention goes where an answer is due, are shown
         beside. Logits are those of masked full attention to 1e-5 (in float64); kept entries grow with the length by half.
Differs: lookups of keys in place of passkeys in books; 60 steps of AdamW at 0.04 instead of 2000 at 0.02; sinks 4 and 12
         recent tokens instead of 128 and 256, the same in learning and use. One head of sixteen fetches in this model, by
         its recipe, so random halves cannot do worse than half. Time is measured in benchmarks, not here.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.hub import attach, attending, watch
from attime.lens import copied_share, gated_attention
from attime.memory.evict import Evict, PerHead, Recency
from attime.papers.card import Paper, Verdict
from attime.zoo.recall import NEEDLE, RECALL

PAPER = Paper(
    number=167,
    title="DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
    url="https://arxiv.org/abs/2410.10819",
    parts=(gated_attention, copied_share, attending, Evict, PerHead),
)
FULL = {"steps": 400, "rows": 512, "draws": 20}
SINKS, WINDOW = 4, 12


def run(*, steps: int = 60, share: float = 0.5, rows: int = 32, draws: int = 2, seed: int = 0) -> Verdict:
    """Learn the gates, keep the past of the heads with the highest ones, and look needles up."""
    model: Any = zoo.load("recall").model.requires_grad_(False)
    sizes = model.config.num_hidden_layers, model.config.num_key_value_heads
    gates, count = _learn(model, sizes, steps, seed), round(share * sizes[0] * sizes[1])
    test, generator = next(NEEDLE.train(seed=1_000_003 + seed, batch=rows)), torch.Generator().manual_seed(seed)
    with torch.no_grad(), watch(model, keep=lambda call: call.maps[:, :, -1:]) as seen:
        full = model(test.inputs, use_cache=False).logits
    away = [each.value[..., SINKS:-WINDOW].sum(-1).mean((0, 2)).view(sizes[1], -1) for each in seen]
    needle, written = test.inputs == test.targets[:, None], full[:, -1:].argmax(-1)
    copied = torch.stack([copied_share(each.value, test.inputs, written, needle).mean(0) for each in seen])
    fetching = copied.unflatten(1, (sizes[1], -1)).amax(2).flatten() >= 0.1

    def look(score: Tensor, inputs: Tensor, keep: int = count, every: int = 8) -> tuple[Tensor, float, int]:
        best = score.flatten().argsort(descending=True)[:keep].tolist()
        budget = PerHead(heads=tuple(divmod(each, sizes[1]) for each in best), others=SINKS + WINDOW + every - 1)
        policy = Evict(score=Recency(), budget=budget, sinks=SINKS, recent=1, every=every)
        with torch.no_grad(), attach(model, policy) as attached:
            cache = attached.cache()
            logits = model(inputs, past_key_values=cache).logits
        return logits, cache.ledger().share * inputs.shape[1], cache.nbytes

    def accuracy(logits: Tensor) -> float:
        return float((logits[:, -1].argmax(-1) == test.targets).double().mean())

    ours, kept, held = look(gates, test.inputs)
    half, drawn = NEEDLE.length // 2, [torch.rand(sizes, generator=generator) for _ in range(draws)]
    lots = [accuracy(look(sign * each, test.inputs)[0]) for each in drawn for sign in (1, -1)]
    numbers = {
        "accuracy_full": accuracy(full),
        "accuracy_gates": accuracy(ours),
        "accuracy_gates_quarter": accuracy(look(gates, test.inputs, keep=count // 2)[0]),
        "accuracy_profile_quarter": accuracy(look(torch.stack(away).mean(2), test.inputs, keep=count // 2)[0]),
        "retrieval_heads": float(fetching.sum()),
        "retrieval_heads_in_quarter": float(fetching[gates.flatten().argsort(descending=True)[: count // 2]].sum()),
        "accuracy_random": sum(lots) / len(lots),
        **{"highest_gate": float(gates.max()), "mean_gate": float(gates.mean())},
        "growth_share": (kept - look(gates, test.inputs[:, :half])[1]) / (NEEDLE.length - half),
        "bytes_share": held / look(gates, test.inputs, keep=gates.numel())[2],
    }
    chosen = torch.zeros(gates.numel()).double().scatter(0, gates.flatten().argsort(descending=True)[:count], 1.0)
    with torch.no_grad(), attending(model.double(), partial(_attend, gates=chosen.view(sizes))):
        masked = model(test.inputs[:2], use_cache=False).logits
    numbers["difference_from_masked"] = float((look(gates, test.inputs[:2], every=1)[0] - masked).abs().max())
    least = min(numbers["accuracy_gates"], numbers["accuracy_gates_quarter"])
    failed = {
        "accuracy is lost": least >= 0.97 * numbers["accuracy_full"],
        "a head that fetches is missed": 0 < numbers["retrieval_heads"] == numbers["retrieval_heads_in_quarter"],
        "random heads do as well": numbers["accuracy_random"] < 0.6 * numbers["accuracy_full"],
        "not the masked numbers": numbers["difference_from_masked"] < 1e-5,
        "the past does not grow by the share": abs(numbers["growth_share"] - share) < 0.02,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def _learn(model: Any, sizes: tuple[int, int], steps: int, seed: int) -> Tensor:
    """Gates (layers, heads), on a needle and a row of lookups at each step."""
    gates = torch.ones(sizes, requires_grad=True)
    optimiser = torch.optim.AdamW([gates], lr=0.04, weight_decay=0.0)
    streams = [task.train(seed=seed, batch=1) for task in (NEEDLE, RECALL)]
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.04 * min(1, 5 * (step + 1) / steps, 5 - 5 * step / steps)
        drawn = [next(stream) for stream in streams]
        inputs, scored = torch.cat([each.inputs for each in drawn]), torch.cat([each.scored for each in drawn])
        with torch.no_grad():
            target = model.model(inputs, use_cache=False).last_hidden_state[scored]
        with attending(model, partial(_attend, gates=gates)):
            moved = model.model(inputs, use_cache=False).last_hidden_state[scored]
        loss = (moved - target).square().mean() + 0.05 * gates.abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        gates.data.clamp_(0, 1)
    return gates.detach()


def _attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, *, gates: Tensor) -> Tensor:
    """Gated attention of one layer."""
    return gated_attention(q, k, v, gates[layer], scale=scale, sinks=SINKS, window=WINDOW)
