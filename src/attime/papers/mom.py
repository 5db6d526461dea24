"""MoM: linear sequence modeling with a mixture of memories.

Claim:   several states, each written by the tokens routed to it, hold more than one state without interference, at a
         cost per token that does not grow with their number.
Parts:   attention.linear.MixtureOfMemories
Proof:   key-value pairs, twice as many as one state has key channels, are written and asked for with planted weights (a
         random router, nothing trained): the mixture names 0.1 more of the values than one gated-delta state of the same
         size (the baseline), with the work of `top` states; a stream gives the whole clip's numbers to 1e-10; and the
         balancing loss spreads a router that sends everything to one memory.
Differs: language models are not trained; one state as large as the whole mixture is reported (`one_large`).
"""

import torch
from torch.nn import functional as F

from attime.attention.linear import MixtureOfMemories
from attime.attention.linear.memories import load_balance
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=142,
    title="MoM: Linear Sequence Modeling with Mixture-of-Memories",
    url="https://arxiv.org/abs/2502.13685",
    parts=(MixtureOfMemories, load_balance),
)
FULL = dict(half=128, memories=8, pairs=512, rows=64)


def run(*, half: int = 32, memories: int = 4, top: int = 2, pairs: int = 64, rows: int = 64, seed: int = 0) -> Verdict:
    """Recall of planted pairs by one state and by a mixture; then stream and balance."""
    torch.manual_seed(seed)
    large = round(half * memories**0.5)
    numbers = {
        "one_recall": recall(planted(half, 1, 1), half, pairs, rows),
        "mixture_recall": recall(planted(half, memories, top), half, pairs, rows),
        "one_large_recall": recall(planted(large, 1, 1), large, pairs, rows),
    }
    one, mixture = planted(half, 1, 1).cost(1), planted(half, memories, top).cost(1)
    numbers["mixture_work_of_one"] = mixture.operations / one.operations
    numbers["mixture_bytes_of_one"] = mixture.state_bytes / one.state_bytes

    mixer = MixtureOfMemories(16, memories=memories, top=top).double()
    x, state, out = torch.randn(2, 50, 16, dtype=torch.float64), None, []
    with torch.no_grad():
        for chunk in x.split([1, 30, 2, 17], dim=1):
            y, state = mixer(chunk, state)
            out.append(y)
        numbers["stream_error"] = float((torch.cat(out, dim=1) - mixer.reference(x)).abs().max())
        x[..., 0] = 1.0
        mixer.router.weight[0, 0] += 3.0
    optimizer = torch.optim.Adam(mixer.router.parameters(), lr=0.05)
    for name in ("collapsed", "balanced"):
        numbers[f"busiest_share_{name}"] = float(mixer.route(x)[1].double().mean((0, 1)).max()) / top
        for _ in range(100):
            optimizer.zero_grad()
            load_balance(mixer.route(x)[2], top=top).backward()
            optimizer.step()

    gain = numbers["mixture_recall"] - numbers["one_recall"]
    spread = numbers["busiest_share_collapsed"] - numbers["busiest_share_balanced"]
    holds = gain > 0.1 and numbers["stream_error"] < 1e-10 and numbers["mixture_work_of_one"] <= top and spread > 0.05
    reason = (
        "" if holds else f"recall gains {gain:.3f} (0.1 needed), the busiest memory loses {spread:.3f} (0.05 needed)"
    )
    return Verdict(holds=holds, numbers=numbers, reason=reason)


def planted(half: int, memories: int, top: int) -> MixtureOfMemories:
    """A mixer of one head that writes what it is told: channels are key, value (one-hot) and a sign, + write, - read."""
    mixer = MixtureOfMemories(2 * half + 1, heads=1, memories=memories, top=top, shared=False)
    size = mixer.dim
    key, sign = torch.zeros(size, size), torch.zeros(size)
    key[:half, :half], sign[-1] = torch.eye(half), 20.0
    value = torch.zeros(size, size)
    value[half : 2 * half, half : 2 * half] = torch.eye(half)
    with torch.no_grad():
        mixer.router.weight[:, half:] = 0  # the same key, the same memories
        mixer.inputs.weight.copy_(torch.cat([key, -sign.expand(size, -1)]))
        for write in mixer.writes:
            write.get_parameter("weight").copy_(torch.cat([key, value, sign[None], torch.zeros(1, size)]))
        mixer.taps.copy_(F.pad(torch.ones(3 * size, 1), (mixer.width - 1, 0)))
        mixer.log_rate.fill_(-20.0)  # nothing is forgotten
        mixer.output.weight.copy_(torch.eye(size))
    return mixer


@torch.no_grad()
def recall(mixer: MixtureOfMemories, half: int, pairs: int, rows: int) -> float:
    """Share of the values named rightly after all pairs are written."""
    keys, values = 3 * torch.randn(rows, pairs, half), torch.randint(half, (rows, pairs))
    written = torch.cat([keys, 5.0 * F.one_hot(values, half), torch.ones(rows, pairs, 1)], dim=2)
    asked = torch.cat([keys, torch.zeros(rows, pairs, half), -torch.ones(rows, pairs, 1)], dim=2)
    out, _ = mixer(torch.cat([written, asked], dim=1))
    return float((out[:, pairs:, half : 2 * half].argmax(2) == values).double().mean())
