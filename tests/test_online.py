"""Questions about streams: truth from pixels, nothing from the future, bounded memories, annotation files."""

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from attime.errors import AttimeError
from attime.streams.film import write_film
from attime.streams.world import COLOURS
from attime.tasks.quiz import Clip, Item, oracle
from attime.tasks.video import FrameMemory, Live, Online, foresight, past_only, read_online
from attime.tasks.video.online import CODES, SCENARIOS
from attime.tasks.video.stream_questions import NOT_YET, UNABLE

QUIZ = Online(streams=4)
ITEMS = QUIZ.items()


class Diary:
    """A witness that writes down what happens to it."""

    def __init__(self) -> None:
        self.frames, self.times, self.asked = [], [], []

    def push(self, frame, when_s) -> None:
        self.frames.append(frame)
        self.times.append(when_s)

    def ask(self, question, options, when_s) -> str:
        self.asked.append((question, when_s, len(self.frames)))
        return options[0]


def test_every_task_of_the_scenarios_is_asked_but_reading() -> None:
    found = {(item.form, item.aspect) for item in ITEMS}
    assert found == {(form, task) for form, tasks in SCENARIOS.items() for task in tasks} - {("real-time", "text")}
    scores = QUIZ.grade(ITEMS, oracle)
    assert {"accuracy", *SCENARIOS} < set(scores)


def test_scores_are_means_of_tasks_and_then_of_scenarios() -> None:
    scores = QUIZ.grade(ITEMS, lambda item: item.answer if item.aspect == "clue" else None)
    assert scores["clue"] == 1
    assert scores["forward"] == pytest.approx(1 / 3)
    assert scores["accuracy"] == pytest.approx(1 / 9)


def test_where_something_is_agrees_with_the_last_frame() -> None:
    checked = 0
    for item in ITEMS:
        if item.aspect == "space":
            colour = item.question.split()[3]
            frame = past_only(item).clip.frames[-1] / 255
            near = np.linalg.norm(frame - np.array(COLOURS[colour]), axis=-1) < 0.25
            if near.sum() > 6:  # it may have changed colour
                y, x = (each.mean() for each in np.nonzero(near))
                assert item.answer == f"{'top' if y < 15.5 else 'bottom'} {'left' if x < 15.5 else 'right'}"
                checked += 1
    assert checked > 8


def test_waiting_is_right_until_the_clue_and_counts_only_rise() -> None:
    groups = defaultdict(list)
    for item in ITEMS:
        if item.form == "forward":
            groups[item.aspect, item.group].append(item)
    for (aspect, _), members in groups.items():
        answers = [item.answer for item in sorted(members, key=lambda item: item.asked_s)]
        if aspect == "repetition":
            assert answers == sorted(answers)
        if aspect == "clue":
            first = answers.index(next(answer for answer in answers if answer != NOT_YET))
            assert first > 0
            assert len(set(answers[first:])) == 1
    hasty = {
        group: [item.answer for item in each if item.answer not in (NOT_YET, "no")]
        for (_, group), each in groups.items()
    }
    scores = QUIZ.grade(ITEMS, lambda item: (hasty.get(item.group) or [""])[-1])
    assert scores["forward"] < 0.5


def test_unable_to_answer_is_right_half_of_the_time_it_is_offered() -> None:
    offered = [item for item in ITEMS if UNABLE in item.options]
    assert np.mean([item.answer == UNABLE for item in offered]) == 0.5
    assert {item.aspect for item in offered} == {"hallucination"}


def test_a_witness_gets_the_past_and_nothing_else() -> None:
    made: list[Diary] = []

    def make() -> Diary:
        made.append(Diary())
        return made[-1]

    QUIZ.grade(ITEMS, Live(make))
    assert len(made) == QUIZ.streams, "one witness sees one stream once"
    for witness in made:
        assert witness.times == [number / 4 for number in range(len(witness.times))]
        assert all(seen == int(when * 4) + 1 for _, when, seen in witness.asked)
        assert all(frame.base is None for frame in witness.frames), "a view would lead to the whole clip"
    assert len(past_only(ITEMS[0]).clip.frames) < len(ITEMS[0].clip.frames)
    live = Live(make)
    live(ITEMS[-1])
    live(replace(ITEMS[-1], asked_s=0.0))
    assert len(made) == QUIZ.streams + 2, "who has seen more cannot be asked about less"


def test_foresight_tells_the_cheater_from_the_witness() -> None:
    items = ITEMS[::5]

    def cheater(item: Item) -> str:
        return item.options[int(item.clip.frames.astype(int).sum()) % len(item.options)]

    assert foresight(cheater, items) > 0.3
    assert foresight(lambda item: cheater(past_only(item)), items) == 0
    assert (
        foresight(
            Live(lambda: FrameMemory(lambda frames, _, options: options[int(frames.sum()) % len(options)])), items
        )
        == 0
    )
    with pytest.raises(AttimeError, match="before their clips end"):
        foresight(oracle, [replace(ITEMS[0], asked_s=1e6)])


@pytest.mark.parametrize(("keep", "kept"), [("latest", [16, 17, 18, 19]), ("even", [0, 8, 16])])
def test_memories_stay_within_budget(keep, kept) -> None:
    seen = []
    memory = FrameMemory(lambda frames, *_: seen.append(frames[:, 0, 0, 0].tolist()) or "", budget=4, keep=keep)
    for number in range(20):
        memory.push(np.full((2, 2, 3), number, np.uint8), number / 4)
    memory.ask("", (), 5.0)
    assert seen[0] == [kept[0]] * (4 - len(kept)) + kept


def test_questions_without_a_time_are_refused() -> None:
    with pytest.raises(AttimeError, match="asked_s"):
        _ = past_only(replace(ITEMS[0], asked_s=None)).clip.frames
    with pytest.raises(AttimeError, match="two shots"):
        Online(world=replace(QUIZ.world, seconds=4.0))
    with pytest.raises(AttimeError, match="first frame"):
        FrameMemory(lambda *_: "").ask("", (), 0.0)


ROWS = [
    {
        "id": 0,
        "task": "EPM",
        "video": "a.mp4",
        "realtime": 2,
        "question": "Who came?",
        "answer": "a dog",
        "options": ["a dog", "a cat"],
        "gt": 0,
    },
    {
        "id": 1,
        "task": "FPD",
        "video": "b.mp4",
        "realtime": 1.5,
        "question": "And then?",
        "options": ["x", "y"],
        "gt": 1,
    },
    {
        "id": 2,
        "task": "CRR",
        "video": "a.mp4",
        "question": "What does she do?",
        "answer": "She waves.",
        "ask_time": 1,
        "clue_time": 2,
        "test_info": [{"realtime": 1, "type": 0}, {"realtime": 3, "type": 1}],
    },
    {
        "id": 3,
        "task": "SSR",
        "video": "a.mp4",
        "tutorial": "T",
        "all_steps": ["s"],
        "start_time": [1],
        "end_time": [2],
        "test_info": [{"realtime": 1, "step": "stir", "type": 1}],
    },
    {
        "id": 4,
        "task": "REC",
        "video": "b.mp4",
        "activity": "jump",
        "start_times": [1],
        "end_times": [2],
        "test_info": [{"realtime": 2, "count": 1}, {"realtime": 3.0, "count": 2}],
    },
]


def test_an_annotation_file_is_asked_in_the_same_way(tmp_path) -> None:
    path = tmp_path / "ovo.json"
    path.write_text(json.dumps(ROWS))
    shades = np.repeat(np.arange(40, 240, 40, dtype=np.uint8), 2)  # five seconds at two frames a second
    write_film(tmp_path / "a.mp4", np.broadcast_to(shades[:, None, None, None], (10, 16, 16, 3)).copy(), fps=2)
    items = read_online(path, tmp_path, fps=1.0, size=(8, 8))
    assert [item.aspect for item in items] == [
        "episodic memory",
        "future",
        "clue",
        "clue",
        "steps",
        "repetition",
        "repetition",
    ]
    assert [item.answer for item in items] == ["a dog", "y", "No", "Yes", "Yes", "1", "2"]
    assert items[-1].options == ("0", "1", "2")
    assert QUIZ.grade(items, oracle) == pytest.approx(dict.fromkeys(QUIZ.grade(items, oracle), 1.0))
    past = past_only(items[0]).clip.frames
    assert past.shape == (3, 8, 8, 3)
    assert np.abs(past[:, 4, 4, 0] - np.array([40.0, 80.0, 120.0])).max() < 8
    here = read_online(path, tmp_path, present=True)
    assert [item.group for item in here] == ["0", "2", "2", "3"]
    assert QUIZ.grade(here, Live(Diary))["backward"] == 1
    assert set(CODES) >= {row["task"] for row in ROWS}
    path.write_text(json.dumps([{"task": "EPM", "video": "a"}]))
    with pytest.raises(AttimeError, match="OVO-Bench"):
        read_online(path, tmp_path)


def test_clips_are_cut_at_the_frame_before_the_question() -> None:
    clip = Clip(lambda: np.zeros((10, 2, 2, 3), np.uint8), 0.5)
    item = Item(clip=clip, question="?", options=("a", "b"), answer="a", aspect="x", asked_s=1.9)
    assert len(past_only(item).clip.frames) == 4
