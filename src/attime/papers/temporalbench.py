"""TemporalBench: captions with one detail in time edited, and a score that text alone cannot win.

Claim:   offered together, edits of one caption give the true one away, since it is the one in their centre; asked one by one,
         with a clip counted only if all its questions are answered rightly, they do not, and models fall far behind people.
Parts:   tasks.video.EditedCaptions, tasks.video.central_caption, tasks.video.read_temporalbench
Proof:   with four edits of a caption, who reads captions only and takes the one with the fewest changed words to the others
         has more than 0.9 when they are offered together, and at most 0.5^4 and 3 points in multiple binary accuracy. The
         oracle has 1. The zoo's watcher, asked by each pair of captions for the detail in which they differ, lies between.
Differs: captions of the world, edited by rule, and the watcher in place of language models. A limit that this file shows:
         who remembers that one caption comes again in all questions of a clip needs no clip; questions must be asked of
         somebody who does not see the others.
"""

from collections import Counter

from attime.papers.card import Paper, Verdict
from attime.tasks.quiz import Item, oracle
from attime.tasks.video import EditedCaptions, central_caption, read_temporalbench
from attime.tasks.video.edits import deciding_question
from attime.zoo import load

PAPER = Paper(
    number=17,
    title="TemporalBench: Benchmarking Fine-grained Temporal Understanding for Multimodal Video Models",
    url="https://arxiv.org/abs/2410.10818",
    parts=(EditedCaptions, central_caption, deciding_question, read_temporalbench),
)
FULL = {"clips": 1000}


def run(*, clips: int = 60, edits: int = 4, seed: int = 0) -> Verdict:
    """Ask about `clips` clips, each with `edits` edits of its caption."""
    quiz, together = EditedCaptions(clips=clips, edits=edits), EditedCaptions(clips=clips, edits=edits, together=True)
    items, all_at_once = quiz.items(seed=seed), together.items(seed=seed)
    watcher = load("watcher")

    def watching(item: Item) -> str:
        question, answers = deciding_question(*item.options)
        scores = watcher.scores(item.clip.frames, question, answers)  # pyright: ignore[reportAttributeAccessIssue]
        return item.options[int(scores[1] > scores[0])]

    often = Counter((item.group, option) for item in items for option in item.options)
    seen = quiz.grade(items, watching)
    name = quiz.group_score
    numbers = {
        "chance": 0.5**edits,
        "oracle": quiz.grade(items, oracle)[name],
        "centre, together": together.grade(all_at_once, central_caption)["accuracy"],
        "centre, multiple binary accuracy": quiz.grade(items, central_caption)[name],
        "remembers the other questions": quiz.grade(
            items, lambda item: max(item.options, key=lambda option: often[item.group, option])
        )[name],
        "watcher, binary accuracy": seen["accuracy"],
        "watcher, multiple binary accuracy": seen[name],
    }
    leaks = numbers["centre, together"] > 0.9
    closed = numbers["centre, multiple binary accuracy"] <= numbers["chance"] + 0.03
    between = numbers["chance"] + 0.03 < numbers["watcher, multiple binary accuracy"] < numbers["oracle"] == 1
    holds = leaks and closed and between
    return Verdict(holds=holds, numbers=numbers, reason="" if holds else f"{leaks=}, {closed=}, {between=}")
