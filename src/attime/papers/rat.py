"""RAT: recurrence inside chunks, softmax attention across them.

Claim:   one size, the chunk, leads from attention to a recurrent network: the cache and the work of a token shrink by the
         chunk's size; at 16 the paper reports 9x faster generation at 4k tokens.
Parts:   attention.softmax.ChunkGated
Proof:   at chunk 1 (gates open) the layer is softmax attention and at chunk T a gated recurrence, to 1e-10; the cache after
         `length` tokens, held against that of chunk 1, is smaller by 0.9 chunk at least, and a decoded token takes less
         than half the time. Baseline: chunk 1.
Differs: quality at 1.3B parameters is not shown; attention at chunk 1 is the same code, not a tuned kernel.
"""

import time

import torch
from torch.nn import functional as F

from attime.attention.softmax import ChunkGated
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=253,
    title="RAT: Bridging RNN Efficiency and Attention Accuracy in Language Modeling",
    url="https://arxiv.org/abs/2507.04416",
    parts=(ChunkGated,),
)
FULL = dict(length=32768, dim=512, heads=8)


def run(*, length: int = 8192, dim: int = 256, heads: int = 4, chunk: int = 16, seed: int = 0) -> Verdict:
    """Both ends of the range as identities; cache and decoding time between them."""
    torch.manual_seed(seed)
    attention, recurrence = ends(dim=16, tokens=40)
    numbers = dict(attention_error=attention, recurrence_error=recurrence)
    x = torch.randn(1, length, dim)
    for size in (1, chunk, length):
        mixer = ChunkGated(dim, heads=heads, groups=heads, chunk=size)
        with torch.no_grad():
            state = mixer.begin(x)
            slots = length // size  # a cache as it stands after `length` tokens, without computing it
            filled = torch.randn(1, heads, slots, dim // heads)
            state = type(state)(filled, filled.clone(), state.running, torch.tensor([slots * size]))
            taken = []
            for _ in range(9):
                start = time.thread_time()
                mixer(x[:, :1], state)
                taken.append(time.thread_time() - start)
        numbers[f"cache_bytes_chunk_{size}"] = float(state.nbytes)
        numbers[f"token_us_chunk_{size}"] = 1e6 * min(taken)
    smaller = numbers["cache_bytes_chunk_1"] / numbers[f"cache_bytes_chunk_{chunk}"]
    faster = numbers["token_us_chunk_1"] / numbers[f"token_us_chunk_{chunk}"]
    numbers |= dict(cache_smaller=smaller, token_faster=faster)
    exact = max(attention, recurrence) < 1e-10
    holds = exact and smaller > 0.9 * chunk and faster > 2
    reason = "" if holds else f"exact: {exact}, cache {smaller:.1f}x smaller, a token {faster:.1f}x faster"
    return Verdict(holds=holds, numbers=numbers, reason=reason)


@torch.no_grad()
def ends(*, dim: int, tokens: int) -> tuple[float, float]:
    """Distance from softmax attention at chunk 1 with open gates, and from a gated recurrence at chunk T."""
    x = torch.randn(2, tokens, dim, dtype=torch.float64)
    mixer = ChunkGated(dim, heads=1, groups=1, chunk=1).double()
    mixer.gate_bias.fill_(-1e4)
    z, v, _, q, k = mixer.inputs(x).chunk(5, dim=-1)
    speed = 10000.0 ** -(torch.arange(0, dim, 2, dtype=x.dtype) / dim)
    turn = torch.polar(torch.ones(tokens, dim // 2, dtype=x.dtype), torch.arange(tokens)[:, None] * speed)
    q, k = (torch.view_as_real(torch.complex(*each.chunk(2, -1)) * turn).flatten(-2) for each in (q, k))
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
