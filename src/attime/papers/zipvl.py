"""ZipVL: each layer keeps as many tokens as hold most of its attention; the others do not attend, and get fewer bits.

Claim:   how many tokens matter differs between layers; counted by a share tau of the attention that a few probes give,
         attention among the important tokens alone loses less than with the same number in every layer.
Parts:   hub.attending, lens.attention_map (probes, sparse prefill), memory.quantize.Salience(mass=tau), hub.attach
Proof:   the zoo's byte model reads `prompt` bytes of unseen source so that in each layer the important tokens attend to one
         another alone (the others' attention gives nothing), and then reads on, attending to everything. With tau = 1 it is
         exact (1e-4). Shares differ between layers by 0.1 at least. Nats above exact attention are fewer than with the
         mean share in every layer.
Differs: they are .9, .5, .5, .9, .8, .8 of those with the mean share at seeds 0 to 5 (half as many rows: .99 at seed 3). Not
         found, only reported: that easy input needs fewer tokens (a prompt that repeats itself needs .75 to .79, source
         .75 to .77), and that bits gain as well (4 bits for 0.9 of the attention, 2 for the rest, against a fixed share of
         as many bytes, on half of the rows: more nats at seeds 0, 1 and 3). A byte model and source code, not video; probes are 5 % last and 5 % random queries.
         Bits are chosen with full attention, by each head; what is unimportant keeps 2 bits. What is left out is computed
         and thrown away: no kernel for ragged prefill, so no time is saved.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from attime import zoo
from attime.hub import attach, attending
from attime.lens import attention_map
from attime.memory import Policy
from attime.memory.quantize import Salience
from attime.papers.card import Paper, Verdict
from attime.streams.text import standard_library

PAPER = Paper(
    number=159,
    title="ZipVL: Efficient Large Vision-Language Models with Dynamic Token Sparsification and KV Cache Compression",
    url="https://arxiv.org/abs/2410.08584",
    parts=(Salience, attending, attention_map),
)
FULL = {"rows": 128}


def run(*, rows: int = 24, prompt: int = 160, more: int = 64, tau: float = 0.975, seed: int = 0) -> Verdict:
    """Sparse prefill with shares by layer and with their mean, then bits by layer and alike."""
    model: Any = zoo.load("bytes").model
    text = torch.from_numpy(standard_library().test.copy()).long()
    start = torch.randint(len(text) - prompt - more, (rows,), generator=torch.Generator().manual_seed(seed))
    ids = text[start[:, None] + torch.arange(prompt + more)]

    def sparse(tokens: Tensor, mass: float, fixed: float | None = None) -> tuple[float, Tensor]:
        generator, shares = torch.Generator().manual_seed(seed), list[float]()
        attend = partial(_sparse, prompt=prompt, mass=mass, fixed=fixed, generator=generator, shares=shares)
        with torch.no_grad(), attending(model, attend):
            return _loss(model(tokens, use_cache=False).logits, tokens, prompt), torch.tensor(shares)

    def held(policy: Policy) -> tuple[float, int]:
        with torch.no_grad(), attach(model, policy) as attached:
            cache = attached.cache()
            model(ids[:1, :prompt], past_key_values=cache, logits_to_keep=1)
            size, cache = cache.nbytes, attached.cache()
            first = model(half[:, :prompt], past_key_values=cache).logits
            logits = torch.cat([first, model(half[:, prompt:], past_key_values=cache).logits], dim=1)
        return _loss(logits, half, prompt) - _loss(plain[: len(half)], half, prompt), size

    with torch.no_grad():
        plain = model(ids, use_cache=False).logits
    exact, half = _loss(plain, ids, prompt), ids[: (rows + 1) // 2]
    dynamic, shares = sparse(ids, tau)
    alike, _ = sparse(ids, tau, fixed=float(shares.mean()))
    _, easy = sparse(ids[:, :8].repeat(1, (prompt + more) // 8), tau)
    whole: dict[str, Any] = {"sinks": 0, "recent": 0, "every": prompt}
    by_mass, size = held(Salience(mass=0.9, **whole))
    by_share = {share / 20: held(Salience(salient=share / 20, **whole)) for share in range(4, 20, 3)}
    share = min((each for each, (_, most) in by_share.items() if most >= size), default=max(by_share))
    numbers = {
        "nats_exact": exact,
        "difference_tau_1": abs(sparse(ids, 1.0)[0] - exact),
        "more_nats_dynamic": dynamic - exact,
        "more_nats_same_share": alike - exact,
        "share": float(shares.mean()),
        "share_least": float(shares.min()),
        "share_most": float(shares.max()),
        "share_repeated": float(easy.mean()),
        "more_nats_bits_by_mass": by_mass,
        "more_nats_bits_by_share": by_share[share][0],
        "bytes_mass_over_share": size / by_share[share][1],
    }
    failed = {
        "tau 1 is not exact": numbers["difference_tau_1"] <= 1e-4,
        "shares do not differ": float(shares.max() - shares.min()) >= 0.1,
        "the same share does as well": dynamic < alike,
    }
    reason = "; ".join(why for why, holds in failed.items() if not holds)
    return Verdict(holds=not reason, numbers=numbers, reason=reason)


def _loss(logits: Tensor, ids: Tensor, prompt: int) -> float:
    """Mean nats of what follows the prompt."""
    return float(torch.nn.functional.cross_entropy(logits[:, prompt:-1].flatten(0, 1), ids[:, prompt + 1 :].flatten()))


def _sparse(
    layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, *,
    prompt: int, mass: float, fixed: float | None, generator: torch.Generator, shares: list[float],
) -> Tensor:  # fmt: skip
    """Within the prompt important tokens attend to one another alone; later ones attend to everything."""
    maps, few = attention_map(q, k, scale=scale), max(1, prompt // 20)
    probes = torch.cat([torch.randperm(prompt - few, generator=generator)[:few], torch.arange(prompt - few, prompt)])
    received = maps[:, :, probes, :prompt].mean(1).sum(1)
    could = (probes[:, None] >= torch.arange(prompt)).sum(0)
    ordered = received.sort(dim=1, descending=True).values.cumsum(1)
    count = 1 + (ordered < mass * len(probes)).sum(1).clamp(max=prompt - 1)
    count = torch.full_like(count, prompt) if mass == 1 else count
    count = count if fixed is None else torch.full_like(count, round(fixed * prompt))
    shares.append(float(count.double().mean()) / prompt)
    rank = (received / could).argsort(dim=1, descending=True).argsort(dim=1)
    important = torch.nn.functional.pad(rank < count[:, None], (0, q.shape[2] - prompt), value=True)
    later = (torch.arange(q.shape[2]) >= prompt)[:, None]
    among = (important[:, :, None] & important[:, None]) | later
    maps = maps * among[:, None]
    maps = maps / maps.sum(-1, keepdim=True).clamp(min=1e-9)
    return maps @ v.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
