"""Quizzes: conflicting clips, the three measures of time, choices, edited captions, free answers, annotation files, laws that bite."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from attime.errors import AttimeError
from attime.laws.quizzes import QUIZ_LAWS
from attime.streams.world import COLOURS, KINDS, WAYS, World, encode, paint, questions
from attime.streams.world.conflicts import beside, faster, in_turn, reversed_shot
from attime.tasks.contract import Traits
from attime.tasks.quiz import Clip, Item, Quiz, best_scored, guesser, one_frame, oracle, shuffled
from attime.tasks.video import (
    STAGE,
    Choices,
    ConflictingClips,
    EditedCaptions,
    ShotQuestions,
    TimeNeeded,
    central_caption,
    choose,
    lettered,
    read_mvbench,
    read_tempcompass,
    read_temporalbench,
    read_tomato,
    spoken,
    time_needed,
)
from attime.tasks.video.choice_shots import CHOICES
from attime.tasks.video.edits import deciding_question

LAW = {law.name: law for law in QUIZ_LAWS}


def tracker(item: Item) -> str | None:
    """Looks at pixels alone: follows the colour that the question names, and says which way it goes or that it is there."""
    words = item.question.split()
    colour = next(word for word in words if word in COLOURS)
    apart = np.linalg.norm(item.clip.frames / 255 - np.array(COLOURS[colour]), axis=-1)
    near = apart < 0.25
    if item.question.startswith("is there"):
        return "yes" if near.sum() > 3 * len(near) else "no"
    if not near.any(axis=(1, 2)).all():
        return item.options[0]
    middles = np.array([[np.nonzero(frame)[1].mean(), np.nonzero(frame)[0].mean()] for frame in near])
    gone = middles[-3:].mean(axis=0) - middles[:3].mean(axis=0)
    return max(item.options, key=lambda way: float(np.dot(gone, WAYS[way])))


def worlds() -> list[World]:
    calm = World(shot_s=8.0, kinds=tuple(kind for kind in KINDS if kind != "flash"), clutter=2)
    return [calm, replace(calm, seed=1, things=(1, 2)), replace(calm, seed=2, needle_s=2.0)]


class TestTurnedTime:
    def test_a_reversed_shot_shows_the_frames_backwards(self) -> None:
        count = 0
        for world in worlds():
            for number in range(20):
                shot = world.shot(number)
                try:
                    twin = reversed_shot(shot)
                except AttimeError:
                    assert {"grow", "shrink"} & {event.kind for event in shot.events}
                    continue
                when = shot.start_s + np.arange(0, 8.01, 0.25)
                seen, backwards = (paint(each, when, size=(24, 24)) for each in (shot, twin))
                assert np.array_equal(seen[::-1], backwards), f"{world.seed}, {number}"
                again = reversed_shot(twin)
                assert np.array_equal(paint(again, when, size=(24, 24)), seen)
                count += 1
        assert count > 50

    def test_what_happens_is_told_backwards(self) -> None:
        shot = World(seed=4, shot_s=8.0, kinds=("appear", "recolour"), events=(3, 3), things=(3, 3)).shot(0)
        twin = reversed_shot(shot)
        assert {event.kind for event in shot.events} == {"appear", "recolour"}
        assert {event.kind for event in twin.events} == {"vanish", "recolour"}
        for who, thing in enumerate(shot.things):
            colours = [thing.colour, *(event.way for event in shot.of(who, "recolour"))]
            back = [twin.things[who].colour, *(event.way for event in twin.of(who, "recolour"))]
            assert back == colours[::-1]

    def test_what_is_cut_off_cannot_be_reversed(self) -> None:
        shot = World().shot(0)
        cut = replace(shot, stop_s=shot.events[0].stop_s - 0.1)
        with pytest.raises(AttimeError, match="over at its end"):
            reversed_shot(cut)

    def test_faster_is_the_same_in_the_middle_and_takes_less_time(self) -> None:
        shot = World(kinds=("move", "turn", "pan")).shot(1)
        quick = faster(shot, 2.5)
        middle = (shot.start_s + shot.stop_s) / 2
        assert np.array_equal(paint(quick, [middle]), paint(shot, [middle]))
        assert np.array_equal(paint(quick, [middle + 1.0]), paint(shot, [middle + 2.5]))
        first = faster(shot, 2.0, about_s=shot.start_s)
        assert np.array_equal(paint(first, [shot.start_s + 1.0]), paint(shot, [shot.start_s + 2.0]))
        with pytest.raises(AttimeError, match="room"):
            faster(shot, 0.1)
        with pytest.raises(AttimeError, match="factor"):
            faster(shot, 0.0)

    def test_clips_are_joined_in_space_and_time(self) -> None:
        one, other = np.zeros((4, 8, 6, 3), np.uint8), np.ones((4, 8, 6, 3), np.uint8)
        assert beside(one, other).shape == (4, 8, 12, 3)
        assert in_turn(one, other)[4:].all()
        with pytest.raises(AttimeError, match="one size"):
            beside(one, other[1:])


class TestObservers:
    def test_who_follows_pixels_needs_frames_and_their_order(self) -> None:
        kinds = ("move", "hop")
        quiz = ConflictingClips(
            pairs=20, aspects=("direction",), forms=("multiple choice",), world=replace(STAGE, kinds=kinds, noise=0.0)
        )
        assert quiz.score(tracker)["accuracy"] > 0.9
        assert quiz.score(one_frame(tracker)) == {name: 0.5 for name in quiz.chance() if name != "pairs"} | {"pairs": 0}
        assert abs(quiz.score(shuffled(tracker))["accuracy"] - 0.5) < 0.2

    def test_time_is_needed_for_directions_and_not_for_what_is_there(self) -> None:
        quiz = ShotQuestions(kinds=("direction", "exists"), per_kind=40, world=replace(STAGE, kinds=("move", "hop")))
        found = time_needed(quiz, tracker)
        direction, exists = found["direction"], found["exists"]
        assert direction.gain > 0.5
        assert direction.order > 0.5
        assert direction.disparity < 0.5
        assert max(abs(exists.gain), abs(exists.order), abs(exists.disparity)) < 0.05
        assert exists.whole > 0.9

    def test_the_measures_are_those_of_the_paper(self) -> None:
        mvbench = TimeNeeded(whole=0.623, one=0.471, picked=0.598, shuffled=0.6)
        assert round(100 * mvbench.gain, 1) == 32.3
        assert round(100 * mvbench.disparity, 0) == 27
        blind = TimeNeeded(whole=0.5, one=0.0, picked=0.0, shuffled=0.5)
        assert (blind.gain, blind.disparity, blind.order) == (float("inf"), 0, 0)

    def test_one_frame_is_the_middle_one_or_the_one_that_tells(self) -> None:
        frames = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
        item = Item(clip=Clip(lambda: frames), question="?", options=("a", "b"), answer="a", aspect="x", telling=0.2)
        seen = []
        for place in (0.0, 0.5, 1.0, None):
            one_frame(lambda item: seen.append(set(item.clip.frames.ravel().tolist())), place=place)(item)
        assert seen == [{0}, {8}, {15}, {3}]
        assert best_scored(lambda frames, question, options: [len(option) for option in options])(item) == "a"


class TestChoices:
    def test_the_questions_are_the_worlds_own(self) -> None:
        """Where the world asks such a question, it asks it in these words and has the same answer."""
        random = np.random.default_rng(0)
        stage = replace(STAGE, things=(3, 3), events=(0, 0), seed=5).shot(0)
        asked = {
            "moving direction", "egocentric navigation", "action count", "character order", "action sequence",
            "fine-grained action", "action antonym", "state change", "object shuffle", "action localisation",
        }  # fmt: skip
        for task in CHOICES:
            question, shots = CHOICES[task](stage, random)
            encode(question)
            for answer, shot in shots.items():
                known = {each.text: each.answer for seed in range(6) for each in questions(shot, seed=seed)}
                assert known.get(question, answer) == answer, f"{task}: {question} {answer}"
                assert task not in asked or question in known, f"the world does not ask {question!r}"

    def test_options_are_checked(self) -> None:
        for wrong in (lambda: Choices(tasks=("dance",)), lambda: Choices(per_task=10)):
            with pytest.raises(AttimeError, match="Choices needs"):
                wrong()
        for wrong in (lambda: ConflictingClips(aspects=("smell",)), lambda: EditedCaptions(edits=9)):
            with pytest.raises(AttimeError, match="needs a"):
                wrong()
        still = replace(STAGE, kinds=("hop",))
        for quiz in (
            ConflictingClips(pairs=1, aspects=("direction",), world=still),
            EditedCaptions(clips=1, edits=6, world=still),
            ShotQuestions(kinds=("direction",), per_kind=1, world=still),
        ):
            with pytest.raises(AttimeError, match="let more kinds of events happen"):
                quiz.items()


class TestEditedCaptions:
    def test_the_centre_gives_the_truth_away_only_if_all_are_offered_together(self) -> None:
        assert EditedCaptions(clips=40, together=True).score(central_caption)["accuracy"] > 0.9
        quiz = EditedCaptions(clips=60)
        assert quiz.score(central_caption)["multiple binary accuracy"] < 0.0625 + 0.03
        assert quiz.chance()["multiple binary accuracy"] == 0.5**4

    def test_the_deciding_question_is_answered_by_the_clip(self) -> None:
        quiz = EditedCaptions(clips=15, world=replace(STAGE, kinds=(*STAGE.kinds, "turn", "grow")))
        world = replace(quiz.world, seed=2_000_000)
        seen = set()
        for item in quiz.items():
            question, answers = deciding_question(*item.options)
            shot = world.shot(int(item.group.split()[1]))
            known = {each.text: each.answer for seed in range(6) for each in questions(shot, seed=seed)}
            if question in known:  # the two names of an order are asked for in one of two ways
                assert item.options[answers.index(known[question])] == item.answer
                seen.add(item.aspect)
        assert seen == {item.aspect for item in quiz.items()}


@pytest.mark.parametrize(
    ("said", "stands_for"),
    [
        ("left", "left"), ("Left.", "left"), ("B", "right"), ("(B)", "right"), ("b) right", "right"), ("B. left", "right"),
        ("Best option: (C", "up"), ("The answer is (A) left", "left"), ("**B.**", "right"), ("Option 2", "right"),
        ("it moves to the right", "right"), ("left or right", None), ("It was rightly done", None), ("", None), (None, None),
        ("E", None), ("upright", None), ("not left\nbut up", "up"), ("left or right\nC. up", "up"),
    ],
)  # fmt: skip
def test_free_answers_are_matched_by_rule(said: str | None, stands_for: str | None) -> None:
    assert choose(said, ("left", "right", "up")) == stands_for


def test_longer_options_come_first_and_numbers_are_options() -> None:
    assert choose("at the top left, i think", ("left", "top left")) == "top left"
    assert choose("2", ("1", "2")) == "2"
    assert choose("Yes, it does.", ("yes", "no")) == "yes"
    item = Item(
        clip=Clip(lambda: np.zeros((2, 2, 2, 3), np.uint8)), question="?", options=("a", "b"), answer="b", aspect="x"
    )
    assert lettered(item).startswith("?\n(A) a\n(B) b\n")
    assert spoken(lambda item: "(B)")(item) == "b"
    assert spoken(lambda item: None)(item) is None


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory):
    from attime.streams.film import write_film

    folder = tmp_path_factory.mktemp("clips")
    frames = np.zeros((20, 32, 32, 3), np.uint8) + 10 * np.arange(20, dtype=np.uint8)[:, None, None, None]
    for name in ("7.mp4", "human/0209-03.mp4", "short/a.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_film(folder / name, [frames], fps=10)
    return folder


class TestAnnotations:
    def write(self, path, what) -> str:
        path.write_text(json.dumps(what))
        return str(path)

    def test_tempcompass(self, tmp_path, clips) -> None:
        asked = [
            {"question": "Which way?\nA. up\nB. left to right", "answer": "B. left to right"},
            {"question": "Is it moving up?", "answer": "no"},
            {"question": "Which fits?\nOption 1: It rises.\nOption 2: It falls: fast.", "answer": "Option 2: It falls: fast."},
            {
                "question": "Say it.\nInformation A: {'subject': 'cat', 'action': 'a cat\\'s nap'}\n"
                "Information B: {'subject': 'cat', 'action': 'a walk'}\nGenerated Caption:",
                "answer": "B. a wlak",
            },
        ]  # fmt: skip
        path = self.write(tmp_path / "multi-choice.json", {"7": {"attribute_change": asked}})
        items = read_tempcompass(path, clips, frames=4, size=(8, 8))
        assert [item.form for item in items] == ["multiple choice", "yes or no", "caption matching", "captioning"]
        assert [item.answer for item in items] == ["left to right", "no", "It falls: fast.", "a walk"]
        assert items[0].options == ("up", "left to right")
        assert items[0].aspect == "attribute change"
        frames = items[0].clip.frames
        assert frames.shape == (4, 8, 8, 3)
        assert np.all(np.diff(frames.mean(axis=(1, 2, 3))) > 20)
        assert items[0].clip.seconds_per_frame == pytest.approx(0.5)
        assert ConflictingClips().grade(items, oracle)["accuracy"] == 1

    def test_tomato(self, tmp_path, clips) -> None:
        row = {
            "question": "How many?", "options": ["2", "1", "3"], "answer": 2, "key": "0209-03",
            "demonstration_type": "human", "motion_type": "count",
        }  # fmt: skip
        path = self.write(tmp_path / "count.json", {"0": row, "1": {**row, "key": "none"}})
        items = read_tomato(path, clips, present=True)
        assert [(item.answer, item.aspect) for item in items] == [("3", "count")]
        assert items[0].clip.frames.shape == (16, 32, 32, 3)
        with pytest.raises(AttimeError, match=r"none\.mp4"):
            read_tomato(path, clips)

    def test_mvbench(self, tmp_path, clips) -> None:
        row = {"video": "7.mp4", "question": "What next?", "candidates": ["a", "b"], "answer": "b"}
        rows = [row, {**row, "start": 1.0, "end": 2.0}]
        items = read_mvbench(self.write(tmp_path / "action_sequence.json", rows), clips, frames=2)
        whole, part = (item.clip.frames.mean(axis=(1, 2, 3)) for item in items)
        assert items[0].aspect == "action sequence"
        assert part[0] > whole[0] + 20
        assert items[1].clip.seconds_per_frame == pytest.approx(0.5)

    def test_temporalbench(self, tmp_path, clips) -> None:
        question = "Which caption best describes this video?\nA. one (A) \nB. two\nAnswer with the letter."
        rows = [
            {"idx": "0", "video_name": "short/a.mp4", "category": "Action Order", "question": question, "GT": truth}
            for truth in "AB"
        ]
        items = read_temporalbench(self.write(tmp_path / "temporalbench_short_qa.json", rows), clips)
        assert [item.answer for item in items] == ["one (A)", "two"]
        scores = EditedCaptions().grade(items, lambda item: "two")
        assert (scores["accuracy"], scores["multiple binary accuracy"]) == (0.5, 0.0)

    @pytest.mark.parametrize("read", [read_tempcompass, read_tomato, read_mvbench, read_temporalbench])
    def test_a_wrong_file_is_told_in_one_sentence(self, read, tmp_path, clips) -> None:
        for number, wrong in enumerate(({}, [], {"7": 3}, [3], [{"video": "7.mp4"}], {"a": {"question": "?"}})):
            with pytest.raises(AttimeError, match="give the benchmark's own file") as caught:
                read(self.write(tmp_path / f"{number}.json", wrong), clips)
            assert "\n" not in str(caught.value)
        (tmp_path / "text.json").write_text("no json")
        with pytest.raises(AttimeError, match=r"text\.json is not"):
            read(tmp_path / "text.json", clips)
        with pytest.raises(AttimeError, match="folder of the benchmark's videos"):
            read(tmp_path / "text.json", tmp_path / "nowhere")


@dataclass(frozen=True, kw_only=True)
class Coin(Quiz):
    """A sound quiz: pairs of clips that differ at their ends and not in the middle."""

    traits: ClassVar[Traits] = Traits(batches=False, asks=True, conflicting=True)
    group_score: ClassVar[str] = "pairs"
    protocol: str = "coin"
    pairs: int = 20

    def clip(self, number: int, side: str) -> Clip:
        def source() -> np.ndarray:
            frames = np.full((4, 2, 2, 3), number, np.uint8)
            frames[[0, -1] if side == "heads" else 0] += 1
            return frames

        return Clip(source)

    def options(self, random: np.random.Generator) -> tuple[str, ...]:
        return tuple(random.permutation(["heads", "tails"]).tolist())

    def items(self, *, seed: int = 0) -> Sequence[Item]:
        random = np.random.default_rng(seed)
        made = []
        for number in range(self.pairs):
            options = self.options(random)
            for side in options:
                made.append(
                    Item(
                        clip=self.clip(number + seed, side), question="?", options=options, answer=side, aspect="coin",
                        group=str(number),
                    )
                )  # fmt: skip
        return made

    @classmethod
    def examples(cls) -> Sequence["Coin"]:
        return [cls()]


class SameClip(Coin):
    def clip(self, number, side):
        return super().clip(number, "heads")


class TellingMiddle(Coin):
    def clip(self, number, side):
        clip = super().clip(number, side)
        return Clip(partial(lambda frames: frames + np.uint8(side == "heads"), clip.frames))


class FirstIsRight(Coin):
    def items(self, *, seed=0):
        return [replace(item, options=(item.answer, "other")) for item in super().items(seed=seed)]


class Restless(Coin):
    def clip(self, number, side):
        return Clip(lambda: np.random.default_rng().integers(0, 255, (4, 2, 2, 3), np.uint8))


class EverySeedIsOne(Coin):
    def items(self, *, seed=0):
        return super().items(seed=0)


class OddChance(Coin):
    def chance(self, *, seed=0):
        return {**super().chance(seed=seed), "accuracy": 0.4}


class Generous(Coin):
    def grade(self, items, observer):
        return {name: max(value, 0.1) for name, value in super().grade(items, observer).items()}


class TwoWords(Coin):
    def __init__(self) -> None:
        super().__init__(protocol="a coin")


class FlatPictures(Coin):
    def clip(self, number, side):
        return Clip(lambda: np.zeros((4, 2, 2), np.uint8))


FAULTS = {
    SameClip: "one_frame_is_not_enough",
    TellingMiddle: "one_frame_is_not_enough",
    FirstIsRight: "options_are_fair",
    Restless: "same_seed_same_items",
    EverySeedIsOne: "same_seed_same_items",
    OddChance: "guessing_is_as_stated",
    Generous: "truth_is_always_right",
    TwoWords: "the_object_is_the_quiz",
    FlatPictures: "clips_can_be_looked_at",
}


@pytest.mark.parametrize("law", QUIZ_LAWS, ids=lambda law: law.name)
def test_the_sound_quiz_passes(law) -> None:
    assert law.applies(Coin())
    law.run(Coin())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_fault_is_caught(fault) -> None:
    with pytest.raises(AssertionError):
        LAW[FAULTS[fault]].run(fault())


def test_every_quiz_law_has_a_fault() -> None:
    assert set(FAULTS.values()) == set(LAW)


def test_a_quiz_needs_items_and_guessers_differ() -> None:
    with pytest.raises(AttimeError, match="at least one item"):
        Coin().grade([], oracle)
    with pytest.raises(AttimeError, match="answer among its options"):
        Item(clip=Coin().clip(0, "heads"), question="?", options=("a",), answer="b", aspect="x")
    items = Coin().items()
    said = [[observer(item) for item in items] for observer in (guesser(0), guesser(0), guesser(1))]
    assert said[0] == said[1] != said[2]
