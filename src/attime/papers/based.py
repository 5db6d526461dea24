"""Simple linear attention language models balance the recall-throughput tradeoff (Based).

Claim:   second-order Taylor linear attention and a small window of exact attention, interleaved, recall more than either
         alone at the same bytes of state, and the size of the feature is a dial between memory and recall.
Parts:   attention.linear.Taylor, attention.sparse.SlidingWindow, models.Stack
Proof:   phi(q) phi(k) is the Taylor polynomial and a stream gives the quadratic form, to 1e-10; then two-layer models are
         trained on associative recall with distant queries: with both parts accuracy is 0.1 above windows of the same
         bytes, above Taylor features of the same bytes (the baselines), and 0.1 above both parts with smaller features.
Differs: recall of 4 pairs in 48 tokens by models of 32 channels; the short gated convolutions are the plain ones of the
         house's block; no GPU kernels, so throughput is not shown.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from attime.attention import Mixer
from attime.attention.linear import Taylor
from attime.attention.linear.taylor import taylor_features
from attime.attention.sparse.window import SlidingWindow
from attime.models.stack import Block, Stack
from attime.models.tokens import TokenModel
from attime.papers.card import Paper, Verdict
from attime.tasks.recall import Recall

PAPER = Paper(
    number=269,
    title="Simple linear attention language models balance the recall-throughput tradeoff",
    url="https://arxiv.org/abs/2402.18668",
    parts=(Taylor, SlidingWindow, Stack),
)
FULL = dict(dim=64, features=16, window=16, length=128, pairs=16, steps=1000, batch=32)


def run(
    *,
    dim: int = 32,
    features: int = 8,
    window: int = 8,
    length: int = 48,
    pairs: int = 4,
    steps: int = 120,
    batch: int = 16,
    seed: int = 0,
) -> Verdict:
    """Check the identities, then train both parts together, each alone at the same bytes, and both with less."""
    torch.manual_seed(seed)
    numbers = {"identity_error": identities(dim)}
    task = Recall(length=length, vocabulary=6 * pairs, pairs=pairs, power=1.0, held_out=256)

    def taylor(size: int) -> Taylor:
        return Taylor(dim, heads=2, feature_dim=size)

    held = taylor(features).cost(length).state_bytes + SlidingWindow(dim, window=window).cost(length).state_bytes
    alone = next(size for size in range(features, 0, -1) if 2 * taylor(size).cost(1).state_bytes <= held)
    models: dict[str, list[Mixer]] = {
        "both": [taylor(features), SlidingWindow(dim, window=window)],
        "both_smaller": [taylor(features // 4), SlidingWindow(dim, window=window)],
        "windows_alone": [SlidingWindow(dim, window=held // (16 * dim) + 1) for _ in range(2)],
        "taylor_alone": [taylor(alone), taylor(alone)],
    }
    for name, mixers in models.items():
        numbers[f"{name}_state_bytes"] = float(sum(mixer.cost(10 * length).state_bytes for mixer in mixers))
        numbers[f"{name}_accuracy"] = recalled(mixers, task, steps=steps, batch=batch, seed=seed)
    gains = [
        numbers["both_accuracy"] - numbers[f"{name}_accuracy"] - margin
        for name, margin in (("windows_alone", 0.1), ("both_smaller", 0.1), ("taylor_alone", 0.0))
    ]
    holds = numbers["identity_error"] < 1e-10 and min(gains) > 0
    reason = "" if holds else f"gains beyond what is asked for: {gains}; identities: {numbers['identity_error']:.1e}"
    return Verdict(holds=holds, numbers=numbers, reason=reason)


@torch.no_grad()
def identities(dim: int) -> float:
    """How far features are from the polynomial, and a stream, token by token, from the quadratic form."""
    q, k = torch.randn(2, 100, 16, dtype=torch.float64)
    score = (q * k).sum(-1) / 4
    error = ((taylor_features(q) * taylor_features(k)).sum(-1) - (1 + score + score**2 / 2)).abs().max()
    mixer, x, state, out = Taylor(dim).double(), torch.randn(2, 40, dim, dtype=torch.float64), None, []
    for token in x.split(1, dim=1):
        y, state = mixer(token, state)
        out.append(y)
    return float(torch.maximum(error, (torch.cat(out, dim=1) - mixer.reference(x)).abs().max()))


def recalled(mixers: Sequence[Mixer], task: Recall, *, steps: int, batch: int, seed: int) -> float:
    """Accuracy on held-out recall after `steps` of training the mixers in a stack."""
    torch.manual_seed(seed)
    model = TokenModel(Stack([Block(mixer, hidden=mixer.dim) for mixer in mixers]), vocabulary=task.vocabulary)
    inner = [weight for weight in model.stack.parameters() if weight.ndim == 2]
    rest = [weight for weight in model.parameters() if all(weight is not each for each in inner)]
    optimizers = [
        torch.optim.Muon(inner, lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.02, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for step, data in zip(range(steps), task.train(seed=seed, batch=batch), strict=False):
        loss = F.cross_entropy(model.head(model(data.inputs)[0][data.scored]), data.targets)
        loss.backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 0.02 * min(1.0, (step + 1) / 6, 1.7 * (1 - step / steps))
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    return task.score(lambda data: model.head(model(data.inputs)[0][data.scored]))["accuracy"]
