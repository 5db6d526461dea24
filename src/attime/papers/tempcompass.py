"""TempCompass: conflicting clips find out who answers questions about time without looking at time.

Claim:   clips that share their static content and differ in one temporal aspect (played backwards, faster, joined in another
         order) leave nobody a short cut: who sees one frame, or words alone, is at chance, as many video models are.
Parts:   tasks.video.ConflictingClips, streams.world.conflicts, tasks.video.choose, tasks.video.read_tempcompass
Proof:   on pairs of every aspect in four forms the oracle scores 1, guesses are at chance, and each of several observers who
         see the middle frame only, whatever function of it their answer is, has exactly 0.5 in every aspect and form. In
         multiple choice on the aspects that the zoo's watcher was taught, it exceeds 0.8, with one frame it is within 3
         points of chance, and with shuffled frames too (and two standard errors) where the twin is played backwards.
Differs: a video model of our own on a world of our own, and not eight video language models near chance: shown is that the
         protocol tells who perceives time. Shuffling leaves speed, which changes what frames there are. The reader takes
         the benchmark's own four files; free text is matched by rules, with no language model as a judge.
"""

import zlib

from attime.papers.card import Paper, Verdict
from attime.streams.world.conflicts import faster, reversed_shot
from attime.tasks.quiz import Item, Observer, best_scored, guesser, one_frame, oracle, shuffled
from attime.tasks.video import STAGE, ConflictingClips, choose, read_tempcompass
from attime.zoo import load

PAPER = Paper(
    number=12,
    title="TempCompass: Do Video LLMs Really Understand Videos?",
    url="https://arxiv.org/abs/2403.00476",
    parts=(ConflictingClips, reversed_shot, faster, choose, read_tempcompass),
)
FULL = {"pairs": 150, "every_form": 40}
TAUGHT = ("action", "direction", "order", "speed")
BACKWARDS = ("action", "direction", "order")


def run(*, pairs: int = 15, every_form: int = 5, seed: int = 0) -> Verdict:
    """Ask `pairs` pairs of each taught aspect of the watcher, and `every_form` pairs in every form of observers who know."""
    whole = ConflictingClips(pairs=every_form)
    items = whole.items(seed=seed)
    blind = [whole.grade(items, one_frame(_by_heart(number))) for number in range(3)]
    guesses = [whole.grade(items, guesser(number))["accuracy"] for number in range(20)]
    quiz = ConflictingClips(pairs=pairs, aspects=TAUGHT, forms=("multiple choice",), world=STAGE)
    asked = quiz.items(seed=seed)
    watcher = best_scored(load("watcher").scores)  # pyright: ignore[reportAttributeAccessIssue]
    seen, once = quiz.grade(asked, watcher), quiz.grade(asked, one_frame(watcher))
    mixed = quiz.grade(asked, shuffled(watcher, seed=seed))
    numbers = {
        "oracle": min(whole.grade(items, oracle).values()),
        "guesses": sum(guesses) / len(guesses),
        "one frame, furthest from chance": max(
            abs(value - 0.5) for each in blind for name, value in each.items() if name != "pairs"
        ),
        "one frame, pairs": max(each["pairs"] for each in blind),
        **{f"watcher, {name}": seen[name] for name in ("accuracy", "pairs", *TAUGHT)},
        **{f"watcher, one frame, {name}": once[name] for name in TAUGHT},
        **{f"watcher, shuffled, {name}": mixed[name] for name in TAUGHT},
    }
    slack = 0.03 + 2 * 0.5 / (2 * pairs * len(BACKWARDS)) ** 0.5
    fair = numbers["oracle"] == 1 and numbers["one frame, furthest from chance"] < 1e-9
    fair &= abs(numbers["guesses"] - 0.5) < 0.03
    sees = seen["accuracy"] > 0.8
    needs_frames = all(abs(once[name] - 0.5) <= 0.03 for name in TAUGHT)
    needs_order = abs(sum(mixed[name] for name in BACKWARDS) / len(BACKWARDS) - 0.5) <= slack
    holds = fair and sees and needs_frames and needs_order
    return Verdict(
        holds=holds, numbers=numbers, reason="" if holds else f"{fair=}, {sees=}, {needs_frames=}, {needs_order=}"
    )


def _by_heart(number: int) -> Observer:
    """Whose answer is some function of pixels and question."""

    def observe(item: Item) -> str:
        return item.options[zlib.crc32(item.clip.frames.tobytes() + item.question.encode() + bytes([number])) % 2]

    return observe
