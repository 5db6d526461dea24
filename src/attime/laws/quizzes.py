"""Laws of quizzes: truth is always right, guessing is as stated, options are fair, and one frame is not enough where that is said."""

import pickle
import zlib
from collections import defaultdict
from itertools import groupby

import numpy as np

from attime.laws.contract import Law
from attime.tasks.quiz import Item, Observer, Quiz, guesser, one_frame, oracle

__all__ = ["QUIZ_LAWS"]

GUESSERS = 24
TOLERANCE = 4.0  # standard errors


def truth_is_always_right(quiz: Quiz) -> None:
    """Who knows the answers has 1 in every score, and who says nothing has 0."""
    known, silent = quiz.score(oracle), quiz.grade(quiz.items(), lambda item: None)
    assert set(known) == set(silent)
    assert "accuracy" in known, f"a quiz has an accuracy; got {sorted(known)}"
    assert set(known.values()) == {1.0}, f"the oracle scores {known}"
    assert set(silent.values()) == {0.0}, f"silence scores {silent}"


def guessing_is_as_stated(quiz: Quiz) -> None:
    """Many who guess score, on average, what `chance` says, within their own spread."""
    items, stated = quiz.items(), quiz.chance()
    scores = [quiz.grade(items, guesser(seed)) for seed in range(GUESSERS)]
    assert set(stated) == set(scores[0]), f"chance states {sorted(stated)}, scores are {sorted(scores[0])}"
    for name, value in stated.items():
        found = np.array([each[name] for each in scores])
        slack = TOLERANCE * max(float(found.std()), 1 / len(items)) / np.sqrt(GUESSERS)
        assert abs(found.mean() - value) <= slack, f"{name}: stated {value}, guessers have {found.mean()} +- {slack}"


def same_seed_same_items(quiz: Quiz) -> None:
    """A seed fixes questions, options and pixels; another seed gives others."""
    ours, again, other = quiz.items(seed=3), quiz.items(seed=3), quiz.items(seed=4)
    assert list(ours) == list(again), "the same seed gave other items"
    for one, twin in list(zip(ours, again, strict=True))[:: max(1, len(ours) // 5)]:
        assert np.array_equal(one.clip.frames, twin.clip.frames), "the same seed gave other pixels"
    same = [
        (a.question, a.answer) == (b.question, b.answer) and np.array_equal(a.clip.frames, b.clip.frames)
        for a, b in zip(ours[:40], other[:40], strict=False)
    ]
    assert not all(same), "another seed gave the same items"


def clips_can_be_looked_at(quiz: Quiz) -> None:
    """Clips are bytes (time, height, width, 3) of two frames or more, the same however often one looks."""
    items = list(quiz.items())
    for item in items[:: max(1, len(items) // 8)]:
        frames = item.clip.frames
        assert frames.dtype == np.uint8
        assert frames.ndim == 4 and len(frames) > 1 and frames.shape[3] == 3, f"frames have sizes {frames.shape}"  # noqa: PT018
        assert np.array_equal(frames, item.clip.source()), "looking again shows other pixels"
        assert item.clip.seconds_per_frame > 0
        assert 0 <= item.telling <= 1


def options_are_fair(quiz: Quiz) -> None:
    """Options differ and hold the answer, and no place among them is right more often than it should be."""
    items = quiz.items()
    surplus: dict[int, float] = defaultdict(float)
    variance: dict[int, float] = defaultdict(float)
    for item in items:
        assert len(set(item.options)) == len(item.options) > 1, f"options of {item.question!r}: {item.options}"
        assert all(option.strip() for option in item.options), "an option is blank"
        even = 1 / len(item.options)
        for place, option in enumerate(item.options):
            surplus[place] += (option == item.answer) - even
            variance[place] += even * (1 - even)
    for place, excess in surplus.items():
        spread = np.sqrt(variance[place])
        assert abs(excess) <= TOLERANCE * spread, f"place {place + 1} is right {excess:+.1f} times too often"


def one_frame_is_not_enough(quiz: Quiz) -> None:
    """In a group the same question has every option as its answer once, over clips that differ and whose middle frame is one."""
    items = sorted(quiz.items(), key=lambda item: (item.group, item.question))
    stated = quiz.chance()
    for _, members in groupby(items, key=lambda item: (item.group, item.question)):
        group = list(members)
        answers = sorted(item.answer for item in group)
        assert answers == sorted(group[0].options), f"{group[0].question!r} has the answers {answers}"
        assert len({item.options for item in group}) == 1, "a group has its options in different orders"
        clips = [item.clip.frames for item in group]
        middle = int(0.5 * (len(clips[0]) - 1) + 0.5)
        assert all(np.array_equal(clip[middle], clips[0][middle]) for clip in clips), "middle frames differ"
        assert len({clip.tobytes() for clip in clips}) == len(clips), f"clips do not differ: {group[0].question!r}"
    for seed in range(3):
        found = quiz.grade(items, one_frame(_by_heart(seed)))
        for name in stated:
            if name == quiz.group_score:
                assert found[name] == 0, f"one frame scores {found[name]} {name}"
            else:
                assert abs(found[name] - stated[name]) < 1e-9, f"one frame scores {found[name]} {name}"


def the_object_is_the_quiz(quiz: Quiz) -> None:
    """A quiz has a name in one word, survives a pickle and does not change by use; the order of items changes no score."""
    assert quiz.protocol, "a protocol needs a name"
    assert " " not in quiz.protocol, f"{quiz.protocol!r} has spaces"
    before = pickle.dumps(quiz)
    items = quiz.items()
    scores = quiz.grade(items, _by_heart(0))
    assert pickle.dumps(quiz) == before, "using the quiz changed it"
    twin = pickle.loads(before)
    assert (twin.protocol, list(twin.items())) == (quiz.protocol, list(items)), "a copy asks other questions"
    turned = quiz.grade(list(items)[::-1], _by_heart(0))
    assert all(abs(turned[name] - value) < 1e-9 for name, value in scores.items()), "the order of items changes scores"


QUIZ_LAWS = (
    Law(truth_is_always_right, needs=("asks",)),
    Law(guessing_is_as_stated, needs=("asks",)),
    Law(same_seed_same_items, needs=("asks",)),
    Law(clips_can_be_looked_at, needs=("asks",)),
    Law(options_are_fair, needs=("asks",)),
    Law(one_frame_is_not_enough, needs=("asks", "conflicting")),
    Law(the_object_is_the_quiz, needs=("asks",)),
)


def _by_heart(seed: int) -> Observer:
    """The observer whose answer is any function of pixels and question, the same whenever they are the same."""

    def observe(item: Item) -> str:
        seen = item.clip.frames.tobytes() + item.question.encode() + bytes([seed])
        return item.options[zlib.crc32(seen) % len(item.options)]

    return observe
