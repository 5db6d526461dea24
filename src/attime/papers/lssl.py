"""Linear state-space layers: recurrent, convolutional and continuous in time at once.

Claim:   one layer is a recurrence and a convolution with the same outputs; with HiPPO's matrix it remembers long pasts, and it
         follows data of another sampling rate by a change of its step.
Parts:   attention.ssm.LSSL
Proof:   convolution and single steps agree to 1e-5 in float32; a linear reader of the state recovers the past of a smooth
         signal with at most half the error that it has from a random stable matrix (the baseline); the same reader, on half
         the samples with twice the step, loses less than a fifth of what it loses with the step unchanged.
Differs: memory is read by ridge regression instead of training the layer on raw speech (16000 samples, +24 points).
"""

import math
from unittest import mock

import torch

from attime.attention.ssm import LSSL
from attime.papers.card import Paper, Verdict

PAPER = Paper(
    number=175,
    title="Combining Recurrent, Convolutional, and Continuous-time Models with Linear State-Space Layers",
    url="https://arxiv.org/abs/2110.13985",
    parts=(LSSL,),
)
FULL = {"length": 2000, "clips": 2000, "slots": 128}


def run(*, length: int = 400, clips: int = 400, slots: int = 32, seed: int = 0) -> Verdict:
    """Compare the views, what two matrices remember, and two sampling rates."""
    torch.manual_seed(seed)
    mixer = LSSL(1, slots=slots)
    with torch.no_grad():
        x = torch.randn(1, length, 1)
        state, steps = None, []
        for x_t in x.split(1, dim=1):
            y, state = mixer(x_t, state)
            steps.append(y)
        views = float((mixer(x)[0] - torch.cat(steps, dim=1)).norm() / torch.cat(steps, dim=1).norm())

        mixer.double().log_step.fill_(math.log(2 / length))
        time = torch.arange(length, dtype=torch.float64) / length
        waves = 2 * torch.pi * torch.randint(1, 9, (clips, 4, 1)) * time + 2 * torch.pi * torch.rand(clips, 4, 1)
        clip = waves.sin().mean(1)[..., None]
        lags = torch.arange(8, length // 2, 8)
        past = clip[:, length - 1 - lags, 0]
        train, test = slice(clips // 2), slice(clips // 2, None)

        def memory(signal: torch.Tensor) -> torch.Tensor:
            return mixer(signal)[1].memory[:, 0]

        hippo = memory(clip)
        reader = fit(hippo[train], past[train])
        half = clip[:, 1::2]
        stale = error(memory(half)[test] @ reader, past[test])
        mixer.log_step += math.log(2)
        rescaled = error(memory(half)[test] @ reader, past[test])
        mixer.log_step -= math.log(2)
        matrix = torch.randn(slots, slots, dtype=torch.float64) * (slots / 2 / slots**0.5)
        matrix -= (torch.linalg.eigvals(matrix).real.max() + 1) * torch.eye(
            slots, dtype=torch.float64
        )  # as slow as HiPPO's
        with mock.patch.object(mixer, "dynamics", lambda dtype: matrix.to(dtype)):
            random = memory(clip)
    kept = error(hippo[test] @ reader, past[test])
    baseline = error(random[test] @ fit(random[train], past[train]), past[test])
    numbers = {
        "views_differ": views,
        "hippo_error": kept,
        "random_error": baseline,
        "half_rate_rescaled": rescaled,
        "half_rate_unchanged": stale,
    }
    holds = views < 1e-5 and kept < baseline / 2 and rescaled - kept < (stale - kept) / 5
    return Verdict(
        holds=holds, numbers=numbers, reason="" if holds else "see the numbers: one of the three does not hold"
    )


def fit(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Ridge regression."""
    gram = features.mT @ features
    return torch.linalg.solve(
        gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype), features.mT @ targets
    )


def error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Distance from the truth, relative to its size."""
    return float((found - truth).norm() / truth.norm())
