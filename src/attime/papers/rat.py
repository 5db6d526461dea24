"""RAT: recurrence inside chunks, softmax attention across them.

Claim:   one size, the chunk, leads from attention to a recurrent network: the cache and the work of a token shrink by the
         chunk's size; at 16 the paper reports 9x faster generation at 4k tokens.
Parts:   attention.softmax.ChunkGated
Proof:   at chunk 1 (gates open) the layer is softmax attention and at chunk T a gated recurrence, to 1e-10; the cache after
         `length` tokens, all of which a decoded token reads, is smaller than that of attention (the baseline) by 0.9 chunk at
         least. What a token takes beside PyTorch's attention over all keys with the same projections is told.
Differs: quality at 1.3B parameters is not shown; one token at a time on a CPU, not a large batch on a GPU. A machine's other
         work moves times, so they do not decide: on an idle one a token is 2 to 4 times as fast.
"""

import time
from dataclasses import replace

import torch
from torch.nn import functional as F

from attime.attention.rotary import rotate, turns
from attime.attention.softmax import ChunkGated
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=253,
    title="RAT: Bridging RNN Efficiency and Attention Accuracy in Language Modeling",
    url="https://arxiv.org/abs/2507.04416",
    parts=(ChunkGated,),
)
FULL = {"length": 131072, "dim": 512, "heads": 8}


def run(*, length: int = 32768, dim: int = 256, heads: int = 4, chunk: int = 16, seed: int = 0) -> Verdict:
    """Both ends of the range as identities; cache and decoding time between them."""
    torch.manual_seed(seed)
    attention, recurrence = ends(dim=16, tokens=40)
    numbers = {"attention_error": attention, "recurrence_error": recurrence}
    mixer, x = ChunkGated(dim, heads=heads, groups=heads, chunk=chunk), torch.randn(1, 1, dim)
    cached = [torch.randn(1, heads, length, dim // heads) for _ in range(2)]
    state = replace(  # as it stands after `length` tokens
        mixer.begin(x),
        keys=cached[0][:, :, : length // chunk].clone(),
        values=cached[1][:, :, : length // chunk].clone(),
        tokens=torch.tensor([length // chunk * chunk]),
    )

    def attend() -> None:
        query = mixer.inputs(x)[..., :dim].unflatten(-1, (heads, -1)).transpose(1, 2)
        mixer.output(F.scaled_dot_product_attention(query, cached[0], cached[1]).transpose(1, 2).flatten(-2))

    with torch.no_grad():
        for name, step in (("attention", attend), ("chunks", lambda: mixer(x, state))):
            taken = []
            for _ in range(15):
                start = time.thread_time()
                step()
                taken.append(time.thread_time() - start)
            numbers[f"{name}_token_us"] = 1e6 * min(taken)
    numbers |= {
        "attention_cache_bytes": float(sum(each.nbytes for each in cached)),
        "chunks_cache_bytes": float(state.nbytes),
    }
    smaller = numbers["attention_cache_bytes"] / numbers["chunks_cache_bytes"]
    faster = numbers["attention_token_us"] / numbers["chunks_token_us"]
    numbers |= {"cache_smaller": smaller, "token_faster": faster}
    exact = max(attention, recurrence) < 1e-10
    holds = exact and smaller > 0.9 * chunk
    reason = "" if holds else f"exact: {exact}, cache {smaller:.1f}x smaller"
    return Verdict(holds=holds, numbers=numbers, reason=reason)


@torch.no_grad()
def ends(*, dim: int, tokens: int) -> tuple[float, float]:
    """Distance from softmax attention at chunk 1 with open gates, and from a gated recurrence at chunk T."""
    x = torch.randn(2, tokens, dim, dtype=torch.float64)
    mixer = ChunkGated(dim, heads=1, groups=1, chunk=1).double()
    mixer.gate_bias.fill_(-1e4)
    z, v, _, q, k = mixer.inputs(x).chunk(5, dim=-1)
    q, k = (rotate(each[:, None], turns(torch.arange(tokens)[None], dim))[:, 0] for each in (q, k))
    attended = mixer.output(z.sigmoid() * F.scaled_dot_product_attention(q, k, v, is_causal=True))
    attention = float((mixer(x)[0] - attended).abs().max())
    mixer = ChunkGated(dim, heads=1, groups=1, chunk=tokens).double()
    z, v, f, _, _ = mixer.inputs(x).chunk(5, dim=-1)
    f, running, rows = (f + mixer.gate_bias).sigmoid(), torch.zeros_like(v[:, 0]), []
    for f_t, v_t in zip(f.unbind(1), v.unbind(1), strict=True):
        running = f_t * running + (1 - f_t) * v_t
        rows.append(running)
    recurred = mixer.output(z.sigmoid() * torch.stack(rows, dim=1))
    return attention, float((mixer(x)[0] - recurred).abs().max())
