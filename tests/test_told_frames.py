"""Told clips: answers follow from the captions, the painted frames show them, and what is learnt from text is known of video."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from attime.errors import AttimeError
from attime.streams.world import COLOURS, paint
from attime.tasks.video import ToldFrames, ToldReader
from attime.tasks.video.told_frames import ASPECTS, Told

ITEMS = ToldFrames(questions=300).items(seed=1)


def answer_from(item: Told, captions: list[str]) -> str:
    """Reads nothing but the captions and the question."""
    names = [caption.removeprefix("a ") for caption in captions]
    colours, shapes = zip(*(name.split() for name in names), strict=True)
    if item.aspect == "order":
        return min(item.options, key=names.index)
    if item.aspect == "referring":
        return names[-1 if "end" in item.question else 0]
    if item.aspect == "grounding":
        return str(names.index(re.findall(r"is the (\w+ \w+) \?", item.question)[0]) + 1)
    if item.aspect == "presence":
        return "yes" if re.findall(r"there a (\w+ \w+) \?", item.question)[0] in names else "no"
    shape = item.question.split()[-3] if item.aspect == "change" else item.question.split()[-2]
    return [colour for colour, each in zip(colours, shapes, strict=True) if each == shape][-1]


def test_answers_follow_from_the_captions() -> None:
    assert {item.aspect for item in ITEMS} == set(ASPECTS)
    assert all(answer_from(item, list(item.captions)) == item.answer for item in ITEMS)
    assert all(item.answer in item.options for item in ITEMS)
    assert ITEMS == ToldFrames(questions=300).items(seed=1) != ToldFrames(questions=300).items(seed=2)


def test_only_the_static_ones_survive_another_order() -> None:
    kept = {
        aspect: np.mean(
            [answer_from(item, list(item.captions)[::-1]) == item.answer for item in ITEMS if item.aspect == aspect]
        )
        for aspect in ASPECTS
    }
    assert kept["presence"] == kept["colour"] == 1
    assert max(kept[aspect] for aspect in ("order", "referring", "grounding", "change")) == 0


def test_no_place_among_the_options_is_favoured() -> None:
    for aspect in ("order", "referring", "presence"):
        first = np.mean([item.options[0] == item.answer for item in ITEMS if item.aspect == aspect])
        even = np.mean([1 / len(item.options) for item in ITEMS if item.aspect == aspect])
        assert abs(first - even) < 0.2
    assert ToldFrames(questions=300).chance()["order"] == 0.5


def test_the_frames_show_what_is_told() -> None:
    for item in ITEMS[:20]:
        frames = paint(item.shot, item.when_s, size=(24, 24)) / 255
        for frame, caption in zip(frames, item.captions, strict=True):
            tint = frame.reshape(-1, 3)[np.linalg.norm(frame.reshape(-1, 3) - frame[0, 0], axis=1).argmax()]
            nearest = min(COLOURS, key=lambda name: float(np.linalg.norm(tint - np.array(COLOURS[name]))))
            assert nearest == caption.split()[1]
    assert ITEMS[0].text.splitlines()[1] == f"Frame 2: {ITEMS[0].captions[1]}"


def test_what_is_learnt_from_text_is_known_of_video() -> None:
    told = ToldFrames(aspects=("order",), frames=3, questions=900).items(seed=3)
    model = ToldReader(frames=3, dim=32)
    model.look(told[:300], steps=200)
    seen = model.see(told[-100:])
    assert np.mean([read == item.captions for read, item in zip(model.read(seen), told[-100:], strict=True)]) > 0.9
    eye = [weight.clone() for weight in model.eye.parameters()]
    model.study(told[:-100], steps=120)
    assert all(torch.equal(was, now) for was, now in zip(eye, model.eye.parameters(), strict=True)), (
        "no video is learnt"
    )
    asked, answers = told[-100:], [item.answer for item in told[-100:]]
    by_text = np.mean([said == answer for said, answer in zip(model.answer(asked), answers, strict=True)])
    by_sight = np.mean([said == answer for said, answer in zip(model.answer(asked, seen), answers, strict=True)])
    backwards = np.mean(
        [said == answer for said, answer in zip(model.answer(asked, seen.flip(1)), answers, strict=True)]
    )
    assert by_text > 0.8
    assert abs(by_text - by_sight) < 0.1
    assert backwards < 0.3


def test_impossible_options_are_refused() -> None:
    wrongs: list[dict[str, Any]] = [{"aspects": ()}, {"aspects": ("taste",)}, {"frames": 9}, {"questions": 0}]
    for wrong in wrongs:
        with pytest.raises(AttimeError, match="ToldFrames"):
            ToldFrames(**wrong)
