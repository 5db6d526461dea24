"""The shipped listener answers on worlds it has never heard, and only by listening."""

import numpy as np
import pytest
import torch

from attime.errors import AttimeError
from attime.streams.world import WORDS, World, encode
from attime.streams.world.ask_sound import sound_questions
from attime.streams.world.sound import hear, hear_many

pytest.importorskip("transformers")

from attime.zoo import Pretrained, load
from attime.zoo.listener import Listener, log_mel

SEED = 2_000_003


@pytest.fixture(scope="module")
def listener() -> Listener:
    found = load("listener")
    assert isinstance(found, Listener)
    return found


@pytest.fixture(scope="module")
def numbers(listener: Pretrained) -> dict[str, float]:
    return listener.measure(seed=SEED)


@pytest.mark.parametrize("goal", Listener.goals, ids=str)
def test_goals_are_met_on_a_fresh_seed(goal, numbers: dict[str, float]) -> None:
    assert goal.met(numbers), f"{goal}: got {numbers[goal.metric]}"


def test_the_card_tells_what_was_measured(listener: Listener, numbers: dict[str, float]) -> None:
    assert listener.card["met"]
    assert listener.card["steps"] == Listener.steps
    assert set(listener.card["numbers"]) == set(numbers)


def test_it_tells_the_story_of_a_clip_at_any_rate(listener: Listener) -> None:
    world = World(seed=SEED, shot_s=4, things=(2, 3), events=(2, 4))
    right = {8000: 0, 16000: 0, 22050: 0}
    for number in range(8):
        shot = world.shot(number)
        asked = sound_questions(shot, kinds=("story",))[0]
        for rate in right:
            right[rate] += listener.ask(hear(shot, rate=rate), asked.text, rate=rate) == asked.answer
    assert min(right.values()) >= 5, right


def test_many_questions_are_answered_as_each_alone(listener: Listener) -> None:
    world = World(seed=SEED, shot_s=4, things=(2, 3), events=(2, 4))
    shots = [world.shot(number) for number in range(3)]
    samples = hear_many(shots, 4, rate=8000)
    asked = [(place, each.text) for place, shot in enumerate(shots) for each in sound_questions(shot)]
    many = listener.ask_many(samples, [text for _, text in asked], [place for place, _ in asked], rate=8000)
    assert many == [listener.ask(samples[place], text, rate=8000) for place, text in asked]
    assert all(encode(answer) for answer in many)
    short = listener.ask(samples[0, :16000], "what sounds first ?", rate=8000)
    assert short == listener.ask(np.pad(samples[0, :16000], (0, 16000)), "what sounds first ?", rate=8000)


def test_the_picture_shows_a_tone_when_and_where_it_is() -> None:
    when = torch.arange(32000) / 8000
    tone = torch.where((when > 1) & (when < 3), torch.sin(2 * torch.pi * 440 * when), torch.zeros(()))
    picture = log_mel(tone[None])[0]
    assert picture.shape == (40, 100)
    loud = picture.max(0).values > picture.max() - 0.1
    assert abs(int(loud.nonzero()[0]) - 25) <= 1
    assert abs(int(loud.nonzero()[-1]) - 75) <= 1
    higher = log_mel(torch.sin(2 * torch.pi * 880 * when)[None])[0]
    assert int(picture[:, 50].argmax()) < int(higher[:, 50].argmax())


def test_the_recipe_teaches_every_weight() -> None:
    torch.manual_seed(0)
    model = Listener.build()
    before = {name: weight.clone() for name, weight in model.named_parameters() if weight.requires_grad}
    Listener.fit(model.train(), steps=2, seed=0, log=lambda line: None)
    assert len(WORDS) == model.get_parameter("proj_out.weight").shape[0]
    same = [name for name, weight in model.named_parameters() if name in before and torch.equal(weight, before[name])]
    assert not same, same


def test_bad_input_is_refused(listener: Listener) -> None:
    silence = np.zeros(32000, np.float32)
    with pytest.raises(AttimeError, match="4 s at a time; got 5 s"):
        listener.ask(np.zeros(40000, np.float32), "what sounds first ?", rate=8000)
    with pytest.raises(AttimeError, match="8000 samples per second or more"):
        listener.ask(silence, "what sounds first ?", rate=4000)
    with pytest.raises(AttimeError, match="no word 'elephant'"):
        listener.ask(silence, "what does the elephant do ?", rate=8000)
    with pytest.raises(AttimeError, match="mono samples, finite"):
        listener.ask(silence * np.nan, "what sounds first ?", rate=8000)
    with pytest.raises(AttimeError, match="one of the 1 clips"):
        listener.ask_many(silence[None], ["what sounds first ?"], [1], rate=8000)
    with pytest.raises(AttimeError, match="39 words or less"):
        listener.ask(silence, "what " * 60, rate=8000)
