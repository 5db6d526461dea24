"""Flowformer: linearizing transformers with conservation flows.

Claim:   attention as a flow that is conserved at sources and sinks makes linear attention selective without assumptions
         about place, in linear time.
Parts:   attention.linear.FlowBidirectional, attention.linear.Flow
Proof:   exact: mean incoming and outgoing flow after conservation is one, the linear form is the quadratic one, and a
         causal stream gives the whole clip's numbers. Selective: with competition the entropy of the weights is 1.3 times
         as far below that of uniform weights as in plain linear attention with the same queries and keys (the
         baseline). Linear: at `length` tokens a layer takes less than half the time of softmax attention with the same
         projections, and less than 3 times as long when they are doubled.
Differs: accuracies on LRA, WikiText, ImageNet, UEA and D4RL are not shown: on small selection tasks tried here, the
         layer and plain linear attention were equal within noise.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from attime.attention.heads import join_heads, split_heads
from attime.attention.linear import Flow, FlowBidirectional
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=63,
    title="Flowformer: Linearizing Transformers with Conservation Flows",
    url="https://arxiv.org/abs/2202.06258",
    parts=(FlowBidirectional, Flow),
)
FULL = dict(length=16384, dim=256, heads=8)


@torch.no_grad()
def run(*, length: int = 4096, dim: int = 64, heads: int = 4, tokens: int = 200, seed: int = 0) -> Verdict:
    """Conservation, both forms, entropy of the weights, and time."""
    torch.manual_seed(seed)
    mixer, x = FlowBidirectional(dim, heads=heads).double(), 3 * torch.randn(2, tokens, dim, dtype=torch.float64)
    numbers = flows(mixer, x)
    numbers["quadratic_error"] = float((mixer(x)[0] - mixer.reference(x)).abs().max())
    causal, state, out = Flow(dim, heads=heads).double(), None, []
    for chunk in x.split([1, tokens // 2, 1, tokens - tokens // 2 - 2], dim=1):
        y, state = causal(chunk, state)
        out.append(y)
    numbers["stream_error"] = float((torch.cat(out, dim=1) - causal.reference(x)).abs().max())

    layer = FlowBidirectional(dim, heads=heads)

    def softmax(clip: Tensor) -> Tensor:
        q, k, v = (split_heads(each, heads) for each in layer.inputs(clip).chunk(3, dim=-1))
        return layer.output(join_heads(F.scaled_dot_product_attention(q, k, v)))

    numbers["flow_ms"] = fastest(layer, length, dim)
    numbers["softmax_ms"] = fastest(softmax, length, dim)
    numbers["flow_growth"] = fastest(layer, 2 * length, dim) / numbers["flow_ms"]
    exact = max(value for name, value in numbers.items() if name.endswith("_error"))
    sharper = (math.log(tokens) - numbers["flow_entropy"]) / (math.log(tokens) - numbers["plain_entropy"])
    faster = numbers["softmax_ms"] / numbers["flow_ms"]
    holds = exact < 1e-10 and sharper > 1.3 and faster > 2 and numbers["flow_growth"] < 3
    reason = (
        "" if holds else f"errors {exact:.1e}, {sharper:.2f}x as far from uniform, {faster:.1f}x as fast as softmax"
    )
    return Verdict(holds=holds, numbers=numbers, reason=reason)


def flows(mixer: FlowBidirectional, x: Tensor) -> dict[str, float]:
    """How far conserved flows are from one on average, and the entropy of the weights with and without competition."""
    q, k, _ = (split_heads(each, mixer.heads) for each in mixer.inputs(x).chunk(3, dim=-1))
    pairs = q.sigmoid() @ k.sigmoid().mT
    into, outof = pairs.sum(3, keepdim=True), pairs.sum(2, keepdim=True)
    received, sent = (pairs / outof).sum(3), (pairs / into).sum(2)
    plain = pairs / into
    chosen = plain * sent.clamp(-1, 1).softmax(-1)[:, :, None]
    chosen = chosen / chosen.sum(3, keepdim=True)
    return {
        "incoming_error": float((received.mean(2) - 1).abs().max()),
        "outgoing_error": float((sent.mean(2) - 1).abs().max()),
        "plain_entropy": float(-(plain * plain.log()).sum(3).mean()),
        "flow_entropy": float(-(chosen * chosen.log()).sum(3).mean()),
    }


def fastest(layer: Callable[[Tensor], object], length: int, dim: int) -> float:
    """Milliseconds of CPU time of the fastest of five calls on a clip of this length."""
    x, taken = torch.randn(1, length, dim), []
    for _ in range(5):
        start = time.thread_time()
        layer(x)
        taken.append(time.thread_time() - start)
    return 1000 * min(taken)
