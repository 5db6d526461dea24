"""The watcher: shipped weights keep their promises on a seed that neither training nor the card has seen; its verbs."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from attime.errors import AttimeError
from attime.streams.world import decode
from attime.streams.world.scene import Event, Shot, Thing
from attime.zoo import load
from attime.zoo.lesson import lesson
from attime.zoo.qwen_video import lead, patchify, waves
from attime.zoo.seeing import FACTS, LABELS, facts, labelled
from attime.zoo.store import SHIPPED
from attime.zoo.watcher import Watcher
from attime.zoo.watching import NEED, Course, exam, film, right

FRESH = 1_000_031


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    if not (SHIPPED / "watcher.safetensors").is_file():
        pytest.skip("the watcher is not trained yet")
    made = load("watcher")
    assert isinstance(made, Watcher)
    return made


def test_it_reaches_its_goals_on_a_fresh_seed(watcher: Watcher) -> None:
    numbers = watcher.measure(seed=FRESH)
    missed = [f"{goal}, got {numbers[goal.metric]:.3f}" for goal in watcher.goals if not goal.met(numbers)]
    assert not missed
    assert watcher.card["met"]
    for kind in NEED:
        assert numbers[f"{kind}_shuffled"] < numbers[kind] - 0.15


def test_asking_is_what_the_class_generates(watcher: Watcher) -> None:
    sheet = exam(FRESH, each=4)
    texts = [question.text for question in sheet.asked]
    said = watcher.ask(sheet.frames, texts)
    inputs = watcher.inputs(sheet.frames, texts)
    numbers = watcher.model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]  # pyright: ignore[reportCallIssue]
    assert said == [decode([number for number in row if number > 2]) for row in numbers.tolist()]
    assert said[0] == watcher.ask(sheet.frames[0], texts[0])
    assert np.mean([right(*each) for each in zip(sheet.asked, said, strict=True)]) > 0.7


def test_the_answer_has_the_highest_score(watcher: Watcher) -> None:
    sheet = exam(FRESH, each=12)
    hits = []
    for question, frames in zip(sheet.asked, sheet.frames, strict=True):
        if question.kind in ("direction", "order"):
            scores = watcher.scores(frames, question.text, question.options)
            said = watcher.ask(frames, question.text)
            if said in question.options:
                assert question.options[int(np.argmax(scores))] == said
            hits.append(said == question.answer)
    assert np.mean(hits) > 0.8


def test_other_sizes_lengths_and_speeds_are_watched(watcher: Watcher) -> None:
    sheet = exam(FRESH, each=1)
    text = sheet.asked[0].text
    large = sheet.frames[0].repeat(2, axis=1).repeat(2, axis=2)
    assert watcher.ask(large, text) == watcher.ask(sheet.frames[0], text)
    longer = torch.from_numpy(sheet.frames[:2].reshape(1, 32, 32, 32, 3))[:, :25]
    inputs = watcher.inputs(longer, text, seconds_per_frame=0.5)
    assert int(inputs["video_grid_thw"][0, 0]) == 13
    assert watcher.model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "texts"), [((4, 32, 32), "what happens ?"), ((2, 4, 32, 32, 3), ["a ?"]), ((0, 32, 32, 3), "a ?")]
)
def test_bad_input_is_an_error_that_says_so(shape: tuple[int, ...], texts: str | list[str]) -> None:
    watcher = Watcher(Watcher.build())
    with pytest.raises(AttimeError, match="watcher needs"):
        watcher.ask(np.zeros(shape, np.uint8), texts)


def test_unknown_words_and_wrong_numbers_are_errors() -> None:
    watcher = Watcher(Watcher.build())
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(AttimeError, match="no word"):
        watcher.ask(frames, "who is the president ?")
    with pytest.raises(AttimeError, match="uint8"):
        watcher.ask(frames.astype(np.float32), "is there a red circle ?")  # pyright: ignore[reportArgumentType]
    with pytest.raises(AttimeError, match="seconds_per_frame"):
        watcher.ask(frames, "is there a red circle ?", seconds_per_frame=0)


def test_a_turn_alone_in_a_row_is_the_turn_alone() -> None:
    torch.manual_seed(0)
    made = Watcher(Watcher.build())
    shots, asked = Course(0).lesson(0, 3)
    frames = film(shots, seed=0)
    with torch.no_grad():
        alone = lesson(made.model, frames, asked, shots, alone=True).losses
        together = lesson(made.model, frames, asked, shots, alone=False).losses
    clip, turn = 2, 1
    place = len(asked[0]) + len(asked[1]) + turn
    question, before = asked[clip][turn], [(each.text, each.answer) for each in asked[clip][:turn]]
    for losses, earlier in ((alone, ()), (together, before)):
        (score,) = made.scores(frames[clip], question.text, [question.answer], earlier=earlier)
        words = len(_words(question.answer))
        assert float(losses[place]) == pytest.approx(-score / words * (2 if words > 4 else 1), rel=1e-4)


def test_what_patches_show_and_what_things_do() -> None:
    things = (
        Thing(colour="red", shape="square", place=(0.9, 0.1)),
        Thing(colour="blue", shape="ring", place=(0.1, 0.9)),
    )
    events = (
        Event(kind="hop", who=1, start_s=10.5, stop_s=11.0),
        Event(kind="move", who=0, start_s=11.0, stop_s=13.0, way="left", speed=0.3),
        Event(kind="hop", who=1, start_s=13.0, stop_s=13.5),
        Event(kind="recolour", who=0, start_s=13.5, stop_s=14.0, way="green"),
    )
    shot = Shot(start_s=10.0, stop_s=14.0, things=things, events=events)
    shown = labelled([shot], slices=8, slice_s=0.5, cells=4)[0]
    assert shown.shape == (8, 4, 4, len(LABELS))
    assert ((shown[..., 0] >= 0).sum((1, 2)) == 2).all()
    names = list(LABELS)
    red = dict(zip(names, shown[3, 0, 2].tolist(), strict=True))  # from 1.5 s on, 0.18 to the left of where it began
    assert red == {"colour": 0, "shape": 1, "doing": 1, "hops": 0, "first": 3, "last": 3}
    blue = [dict(zip(names, shown[slice_, 3, 0].tolist(), strict=True)) for slice_ in (0, 1, 7)]
    assert [(each["hops"], each["first"], each["last"]) for each in blue] == [(0, 0, 0), (1, 2, 2), (2, 2, 7)]
    assert [each["doing"] > 4 for each in blue] == [False, True, False]
    known = [dict(zip(FACTS, row, strict=True)) for row in facts(shot, slice_s=0.5).tolist()]
    assert {name: known[0][name] for name in ("way", "hops", "first", "move begins", "move ends", "becomes", "place")} == {
        "way": 1, "hops": 0, "first": 3, "move begins": 3, "move ends": 7, "becomes": 2, "place": 0
    }  # fmt: skip
    assert (known[1]["way"], known[1]["hops"], known[1]["hop begins"], known[1]["place"]) == (0, 2, 0, 2)


@pytest.mark.parametrize("merge", [1, 2])
def test_patches_are_those_of_the_class(merge: int) -> None:
    """Against a slow spelling of the layout: merged block by merged block, patch by patch, colour, frame, row, column."""
    vision: Any = Watcher.build().config.vision_config  # pyright: ignore
    vision.spatial_merge_size = merge
    frames = torch.randint(0, 256, (2, 3, 32, 48, 3), dtype=torch.uint8)
    pixels, grid = patchify(frames, vision)
    assert grid.tolist() == [[2, 4, 6]] * 2
    mean, deviation = torch.tensor(OPENAI_CLIP_MEAN), torch.tensor(OPENAI_CLIP_STD)
    values = (torch.cat([frames, frames[:, 2:]], dim=1) / 255 - mean) / deviation
    patches = [
        values[clip, 2 * time : 2 * time + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].permute(3, 0, 1, 2)
        for clip in range(2)
        for time in range(2)
        for top in range(0, 4, merge)
        for left in range(0, 6, merge)
        for row in range(top, top + merge)
        for column in range(left, left + merge)
    ]
    torch.testing.assert_close(pixels, torch.stack(patches).flatten(1))


def test_filters_begin_orthonormal() -> None:
    flat = waves(96, 8).flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(96), atol=1e-5, rtol=0)


def test_a_placeholder_stands_for_each_visual_token() -> None:
    config = Watcher.build().config
    numbers = lead(torch.tensor([[8, 4, 4]]), config)
    assert numbers.count(config.video_token_id) == 128  # pyright: ignore


def _words(answer: str) -> list[str]:
    return [*answer.replace(".", " . ").split(), "<end>"]
