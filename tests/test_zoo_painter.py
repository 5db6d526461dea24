"""Painters do what they are asked, by a measurement that finds the truth of drawn clips."""

import numpy as np
import pytest
import torch

from attime.errors import AttimeError
from attime.streams.world import COLOURS, SHAPES, WAYS, Event, Shot, Thing, paint_many
from attime.streams.world.follow import follow

pytest.importorskip("diffusers")

from attime.zoo import load
from attime.zoo.flow_matching import loss, walk
from attime.zoo.orthogonal import descend_orthogonally
from attime.zoo.painter import LattePainter, WanPainter
from attime.zoo.painting import FRAMES, SIZE, Painter, decoded, encoded
from attime.zoo.sentences import Sentences
from attime.zoo.store import SHIPPED

NAMES = ("painter", "painter-latte", "painter-free", "painter-latte-free")


def _drawn(count: int, size: int) -> tuple[list[tuple[str, str, str, float]], np.ndarray]:
    """Clips of one thing, any colour, shape, way and speed (stage widths per frame), and that truth."""
    random = np.random.default_rng(5)
    shots, truth = [], []
    for _ in range(count):
        colour, shape, way = (str(random.choice(list(names))) for names in (COLOURS, SHAPES, WAYS))
        speed = float(random.choice([0.0, 0.12, 0.2, 0.3]))
        gone = speed * (FRAMES - 1) / 4 * np.array(WAYS[way])
        x, y = random.uniform(0.15 - np.minimum(gone, 0), 0.85 - np.maximum(gone, 0)).tolist()
        thing = Thing(colour=colour, shape=shape, place=(x, y), radius=0.15)
        move = Event(kind="move", who=0, start_s=0.0, stop_s=FRAMES / 4, way=way, speed=speed)
        shots.append(Shot(start_s=0.0, stop_s=FRAMES / 4, things=(thing,), events=(move,) if speed else ()))
        truth.append((colour, shape, way if speed else "still", speed / 4))
    return truth, paint_many(shots, np.arange(FRAMES) / 4, size=(size, size))


@pytest.mark.parametrize("size", [16, 32])
def test_follow_finds_the_truth_of_drawn_clips(size: int) -> None:
    truth, clips = _drawn(120, size)
    seen = follow(clips)
    colours, shapes, ways, speeds = zip(*truth, strict=True)
    assert (seen.colour, seen.shape, seen.direction) == (colours, shapes, ways)
    np.testing.assert_allclose(seen.speed, speeds, rtol=0.025)
    np.testing.assert_allclose(seen.distance, np.array(speeds) * size * (FRAMES - 1), rtol=0.025)
    assert seen.jitter.max() < 0.2


def test_follow_sees_jitter_and_nothing() -> None:
    _, clips = _drawn(20, 16)
    shaken = np.stack([np.roll(clips[:, time], time % 2, axis=2) for time in range(FRAMES)], axis=1)
    assert (follow(shaken).jitter > follow(clips).jitter + 0.2).all()
    empty = follow(np.full((2, 4, 16, 16, 3), 38, np.uint8))
    assert empty.direction == ("still", "still")
    assert empty.area.tolist() == [0, 0]
    with pytest.raises(AttimeError, match="needs clips"):
        follow(clips[0])


def test_clips_survive_encoding() -> None:
    _, clips = _drawn(3, 16)
    np.testing.assert_array_equal(decoded(encoded(clips)), clips)


def test_sentences_say_what_they_cannot_understand() -> None:
    told, free = Sentences(), Sentences(paces=())
    assert told.parse("The red square moves left slowly.").way == "left"
    for wrong in ("the pink square moves left fast", "the red square moves left", "a red square moves left fast", ""):
        with pytest.raises(AttimeError, match="understands the sentences"):
            told.parse(wrong)
    with pytest.raises(AttimeError, match="understands"):
        free.parse("the red square moves left slowly")
    assert len(told.all) == len(set(told.all)) == 6 * 3 * 4 * 2
    assert told.encode(["", told.all[0]]).sum() == 12


def test_a_walk_with_a_model_that_knows_ends_at_the_clip() -> None:
    clip = torch.randn(2, 3, 4, 6, 6)

    class Knows(torch.nn.Module):
        def forward(self, *, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
            return (clip.repeat(len(hidden_states) // 2, 1, 1, 1, 1),)

    words = torch.zeros(2, 6, 4)
    assert loss(Knows(), clip, words) == 0
    numbers = []
    for guidance in (1.0, 2.0):
        *_, last = walk(
            Knows(),
            torch.randn_like(clip),
            words,
            words,
            steps=5,
            guidance=guidance,
            callback=lambda number, _: numbers.append(number),
        )
        torch.testing.assert_close(last.latents, clip, atol=1e-5, rtol=1e-5)
    assert numbers == 2 * [0, 1, 2, 3, 4]


def test_the_training_loop_lowers_the_loss_and_tells() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(40, 40), torch.nn.Linear(40, 2))
    goal, lines = torch.nn.Linear(40, 2), list[str]()

    def loss_at(step: int) -> torch.Tensor:
        x = torch.randn(64, 40, generator=torch.Generator().manual_seed(step))
        return torch.nn.functional.mse_loss(model(x), goal(x).detach())

    before = float(loss_at(1000).detach())
    descend_orthogonally(
        model, loss_at, steps=60, matrix_rate=0.02, other_rate=0.02, log=lines.append, watch=lambda: "well", every=30
    )
    assert float(loss_at(1000).detach()) < 0.05 * before
    assert len(lines) == 2
    assert lines[-1].startswith("step     60 of 60")
    assert lines[-1].endswith("well")


def test_painters_refuse_what_they_cannot_paint() -> None:
    wan, latte = WanPainter(WanPainter.build()), LattePainter(LattePainter.build())
    prompt = wan.prompts[0]
    assert wan.paint(prompt, steps=1, frames=12).shape == (1, 12, SIZE, SIZE, 3)
    assert latte.paint(prompt, steps=1, frames=12).shape == (1, 12, SIZE, SIZE, 3)
    with pytest.raises(AttimeError, match="8 to 64 frames"):
        latte.paint(prompt, steps=1, frames=72)
    with pytest.raises(AttimeError, match="steps of 2; got 7"):
        wan.paint(prompt, steps=1, frames=7)
    with pytest.raises(AttimeError, match="needs noise"):
        wan.paint([prompt, prompt], noise=torch.zeros(1, 3, 8, 16, 16))
    with pytest.raises(AttimeError, match="a prompt and a step"):
        wan.paint([])
    with pytest.raises(AttimeError, match="understands"):
        wan.paint("a dog runs")


@pytest.mark.parametrize("name", NAMES)
def test_shipped_painters_reach_their_goals_on_a_new_seed(name: str) -> None:
    if not (SHIPPED / f"{name}.safetensors").is_file():
        pytest.skip(f"{name} is not trained yet")
    painter = load(name)
    assert isinstance(painter, Painter)
    numbers = painter.measure(seed=77, samples=64)
    assert not [str(goal) for goal in painter.goals if not goal.met(numbers)], numbers


def test_paint_is_the_end_of_the_walk_and_noise_is_the_seed() -> None:
    painter = load("painter")
    assert isinstance(painter, Painter)
    prompts = painter.prompts[:2]
    noise = torch.randn(2, 3, FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    *_, last = painter.walk(prompts, noise=noise, steps=4)
    np.testing.assert_array_equal(painter.paint(prompts, seed=3, steps=4), decoded(last.latents))
    stopped = painter.paint(prompts, noise=noise, steps=4, callback=lambda _, latents: torch.zeros_like(latents))
    assert (stopped != decoded(last.latents)).any()
