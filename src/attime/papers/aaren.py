"""Attention as an RNN: softmax attention of a learned query has a state that does not grow.

Claim:   the outputs for all prefixes come from a parallel scan; the layer stacks like a Transformer, needs constant memory at
         inference, and is comparable to a Transformer on 38 data sets.
Parts:   attention.softmax.PrefixQuery, attention.kernels.merge
Proof:   scan, one token at a time, and softmax over each prefix agree to 1e-6 in float32; the state after 100 times as many
         tokens has the same bytes; trained alike on noisy waves of four frequencies, a stack of it is within 3 points of a
         stack of causal softmax attention (the baseline), and both are far above chance.
Differs: one small synthetic task instead of 38 data sets.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from attime.attention.contract import Mixer
from attime.attention.kernels.merge import prefix_softmax
from attime.attention.softmax import PrefixQuery, Softmax
from attime.models.stack import Stack
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=14, title="Attention as an RNN", url="https://arxiv.org/abs/2405.13956", parts=(PrefixQuery, prefix_softmax)
)
FULL = {"steps": 1500, "length": 128}


def run(*, steps: int = 150, length: int = 32, dim: int = 32, seed: int = 0) -> Verdict:
    """The three computations, the state's size, and the two stacks."""
    torch.manual_seed(seed)
    mixer, x = PrefixQuery(dim), torch.randn(2, 300, dim)
    with torch.no_grad():
        parallel, end = mixer(x)
        state, tokens = None, []
        for x_t in x.split(1, dim=1):
            y, state = mixer(x_t, state)
            tokens.append(y)
        prefixes = mixer.reference(x)
        _, far = mixer(torch.randn(2, 30_000, dim))
    numbers = {
        "scan_error": float((parallel - prefixes).abs().max()),
        "step_error": float((torch.cat(tokens, dim=1) - prefixes).abs().max()),
        "state_bytes_300": float(end.nbytes),
        "state_bytes_30000": float(far.nbytes),
        "prefix_query_accuracy": train(lambda: PrefixQuery(dim, heads=4), steps=steps, length=length, seed=seed),
        "attention_accuracy": train(lambda: Softmax(dim, heads=4), steps=steps, length=length, seed=seed),
        "chance": 0.25,
    }
    exact = max(numbers["scan_error"], numbers["step_error"]) < 1e-6
    flat = numbers["state_bytes_300"] == numbers["state_bytes_30000"]
    near = numbers["prefix_query_accuracy"] > max(numbers["attention_accuracy"] - 0.03, 0.75)
    reason = "" if exact and flat and near else f"exact: {exact}, constant state: {flat}, within 3 points: {near}"
    return Verdict(holds=exact and flat and near, numbers=numbers, reason=reason)


def train(make: Callable[[], Mixer], *, steps: int, length: int, seed: int) -> float:
    """Accuracy on new waves, asked at the last sample, after training two blocks around such mixers."""
    torch.manual_seed(seed)
    stack = Stack.of(lambda layer, layers: make(), layers=2, hidden=64)
    model = nn.ModuleDict({"enter": nn.Linear(1, stack.dim), "stack": stack, "leave": nn.Linear(stack.dim, 4)})
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    source = torch.Generator().manual_seed(seed + 1)
    for _ in range(steps):
        clip, label = waves(32, length, source)
        loss = F.cross_entropy(model["leave"](stack(model["enter"](clip))[0][:, -1]), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        clip, label = waves(512, length, source)
        return float((model["leave"](stack(model["enter"](clip))[0][:, -1]).argmax(-1) == label).double().mean())


def waves(rows: int, length: int, source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sines of one of four frequencies, any phase, in a little noise."""
    label = torch.randint(4, (rows,), generator=source)
    phase = 2 * torch.pi * torch.rand(rows, 1, generator=source)
    clip = (0.3 * (label[:, None] + 1) * torch.arange(length) + phase).sin()
    return (clip + 0.3 * torch.randn(rows, length, generator=source))[..., None], label
