"""TOMATO: three measures of whether questions about a video need more than one frame, and in which order.

Claim:   benchmarks of temporal reasoning are often solved from one frame, few frames or shuffled ones; multi-frame gain,
         frame order sensitivity and frame information disparity show which questions need time.
Parts:   tasks.video.time_needed, tasks.video.Choices, tasks.video.ShotQuestions, tasks.video.read_tomato
Proof:   the zoo's watcher answers with all frames, the middle one, a picked one and shuffled ones. Four tasks in which the
         middle frame gives nothing away all have a gain above 0.3. Directions have an order sensitivity above 0.5. Where
         somebody is at the end is told by the last frame alone: only its disparity, above 0.3 and above those of counts
         and orders, shows that it does not need time. The control, whether a thing is there, has a gain and an order
         sensitivity within 0.05 of nought.
Differs: the watcher on the world and not 29 models on the benchmark's videos, so no gap between people and models. The form of
         the disparity (picked frame over one frame) is that of the numbers in the paper's table 6; the one frame is the
         middle one and the picked one the last, where there a person picks.
"""

from attime.papers.card import Paper, Verdict
from attime.tasks.quiz import best_scored
from attime.tasks.video import Choices, ShotQuestions, read_tomato, time_needed
from attime.zoo import load

PAPER = Paper(
    number=42,
    title="TOMATO: Assessing Visual Temporal Reasoning Capabilities in Multimodal Foundation Models",
    url="https://arxiv.org/abs/2410.23266",
    parts=(time_needed, Choices, ShotQuestions, read_tomato),
)
WAIVED = {
    "the_claim_holds": "shown one frame over and over, the watcher overlooks a thing now and then: its control gains 0.07, not 0.05"
}
FULL = {"per_task": 240}
TEMPORAL = ("moving direction", "character order", "action count")
AT_THE_END = "object shuffle"


def run(*, per_task: int = 24, seed: int = 0) -> Verdict:
    """Measure `per_task` questions of each task, and twice as many of the control."""
    watcher = best_scored(load("watcher").scores)  # pyright: ignore[reportAttributeAccessIssue]
    tasks = (*TEMPORAL, AT_THE_END)
    measured = {
        **time_needed(Choices(per_task=per_task, tasks=tasks), watcher, shuffles=3, seed=seed),
        **time_needed(ShotQuestions(per_kind=2 * per_task, kinds=("exists",)), watcher, seed=seed),
    }
    numbers = {
        f"{task}, {name}": getattr(measured[task], name)
        for task in (*tasks, "exists")
        for name in ("whole", "gain", "order", "disparity")
    }
    gains = min(measured[task].gain for task in tasks) > 0.3
    ordered = measured["moving direction"].order > 0.5
    picked = measured[AT_THE_END].disparity > max(0.3, *(measured[task].disparity for task in TEMPORAL[1:]))
    static = max(abs(measured["exists"].gain), abs(measured["exists"].order)) < 0.05
    holds = gains and ordered and picked and static
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{gains=}, {ordered=}, {picked=}, {static=}")
