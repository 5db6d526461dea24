"""Two scores of generated clips: the formula by hand, its blind spots, exact points against pixels, prompts."""

import numpy as np
import pytest

from attime.errors import AttimeError
from attime.streams.world import Event, Shot, Thing, paint
from attime.tasks.video import Coherence, change, coherence, read_prompts, trace, true_tracks
from attime.tasks.video.coherence import CHANGING, STILL
from attime.tasks.video.faults import FAULTS, faults

WHEN = np.arange(16) / 4
THING = Thing(colour="red", shape="square", place=(0.3, 0.5), radius=0.15)
MOVING = Shot(
    start_s=0.0,
    stop_s=4.0,
    things=(THING,),
    events=(Event(kind="move", who=0, start_s=0.0, stop_s=4.0, way="right", speed=0.1),),
    backdrop="dots",
)
OTHER = Shot(start_s=4.0, stop_s=8.0, things=(THING,), events=(), backdrop="stripes", shade=0.5)


def test_the_formula_by_hand() -> None:
    place, seen = np.zeros((5, 4, 2)), np.ones((5, 4), bool)
    seen[2, :2] = False  # half of the points are missing in one of five frames
    found = coherence(place, seen)
    steps = np.array([0, 0.5, 0.5, 0])
    loss = 0.35 * 0.1 / 0.9368749856948853 + 0.25 * steps.std(ddof=1) / 0.8997353911399841
    loss += 0.15 * (2 / 5) / 0.625 + 0.15 * 2 / 20 + 0.10 * 0.5
    assert found.loss == pytest.approx(loss)
    assert found.score == pytest.approx(1 / loss)
    assert found == Coherence(
        missing=0.1, variation=steps.std(ddof=1), cut_share=0.4, cuts=2, worst=0.5, least=found.least
    )


def test_who_goes_on_out_of_sight_is_not_missing() -> None:
    place, seen = np.zeros((6, 3, 2)), np.ones((6, 3), bool)
    place[:, 0, 0] = [0, 1, 2, 3, 4, 5]  # goes on
    place[:, 1, 0] = [0, 1, 2, 3, -1, -2]  # has turned back
    seen[4:] = False
    assert coherence(place, seen).missing == pytest.approx(2 * 2 / 18)


def test_a_faultless_clip_is_best_and_all_scores_are_finite() -> None:
    place, perfect = np.zeros((4, 9, 2)), np.ones((4, 9), bool)
    best = coherence(place, perfect)
    assert best.loss == 0
    assert np.isfinite(best.score)
    random = np.random.default_rng(0)
    for share in (0.02, 0.1, 0.5, 1.0):
        for _ in range(20):
            seen = random.random((4, 9)) > share
            assert coherence(place, seen).score < best.score or seen.all()
    nowhere = coherence(place, ~perfect)
    assert 0 < nowhere.score < best.score


def test_the_unit_of_length_does_not_matter() -> None:
    place, seen = true_tracks(MOVING, WHEN)
    assert coherence(place, seen) == coherence(1000 * place, seen) == coherence(1e-6 * place, seen)


def test_worse_faults_score_less() -> None:
    films = faults(MOVING, OTHER, WHEN)
    assert tuple(films) == FAULTS
    exact = [coherence(*true_tracks(MOVING, WHEN, shown=film.shown)).score for film in films.values()]
    assert exact == sorted(exact, reverse=True)
    assert len(set(exact)) == 4
    assert np.array_equal(films["clean"].frames, paint(MOVING, WHEN, size=(32, 32)))
    cut = [scene is None for scene in films["cuts"].shown]
    assert [not np.array_equal(a, b) for a, b in zip(films["cuts"].frames, films["clean"].frames, strict=True)] == cut


def test_true_points_stay_on_what_they_belong_to() -> None:
    grown = Event(kind="grow", who=0, start_s=0.5, stop_s=2.0)
    turned = Event(kind="turn", who=0, start_s=1.0, stop_s=3.0, way="clockwise", speed=0.25)
    shot = Shot(start_s=0, stop_s=4, things=(THING,), events=(*MOVING.events, grown, turned))
    place, seen = true_tracks(shot, WHEN, cells=40)
    frames = paint(shot, WHEN, size=(120, 120)) / 255
    red = frames[..., 0] - frames[..., 1] > 0.4
    first = red[0][tuple((place[0] * 120).astype(int).T[::-1])]
    assert 20 < first.sum() < 400
    for number in range(len(WHEN)):
        column, row = (place[number, first] * 120).astype(int).T
        assert red[number, row, column].mean() > 0.97
    assert seen[:, first].all()
    hidden = ~seen[:, ~first]
    assert 0 < hidden.mean() < 0.1, "the square hides what it passes"
    assert not hidden[0].any()


def test_points_are_traced_by_their_looks() -> None:
    place, seen = trace(paint(MOVING, WHEN, size=(40, 40)), cells=20)
    start = place[0]
    on = (abs(start[:, 0] - 0.3) < 0.08) & (abs(start[:, 1] - 0.5) < 0.08)
    moved = place[-1] - start
    assert np.allclose(moved[on & seen[-1]].mean(axis=0), (0.375, 0), atol=0.06)  # flat surroundings lag behind
    far = abs(start[:, 1] - 0.5) > 0.3
    assert np.allclose(moved[far], 0)
    assert seen[:, far].all()


def test_change_is_the_share_of_the_sentences_that_say_so() -> None:
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    sentences = [*CHANGING, *STILL]

    def scorer(frames, given):
        assert list(given) == sentences
        return [0.03, 0.02, 0.01, 0, 0, 0.025, 0, 0, 0, 0]

    weights = np.exp(100 * np.array(scorer(frames, sentences)))
    assert change(frames, scorer) == pytest.approx(weights[[0, 1, 2, 3]].sum() / weights.sum())
    assert change(frames, lambda *_: [1.0] * 5 + [-1.0] * 5) == pytest.approx(1.0)
    assert change(frames, lambda *_: [-1.0] * 5 + [1.0] * 5) == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(AttimeError, match="a number for each"):
        change(frames, lambda *_: [0.0])


def test_prompts_are_read_as_they_are_published(tmp_path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('videoid,name,sub_category,main_category\nice_01,"Ice, melting in a glass.",melting,physical\n')
    (prompt,) = read_prompts(path)
    assert (prompt.video, prompt.text, prompt.kind, prompt.field) == (
        "ice_01",
        "Ice, melting in a glass.",
        "melting",
        "physical",
    )
    path.write_text("videoid,name\na,b\n")
    with pytest.raises(AttimeError, match="main_category"):
        read_prompts(path)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(AttimeError, match="time >= 3"):
        coherence(np.zeros((2, 4, 2)), np.ones((2, 4), bool))
    with pytest.raises(AttimeError, match="entry of shown"):
        true_tracks(MOVING, WHEN, shown=[MOVING])
    with pytest.raises(AttimeError, match="height, width, 3"):
        trace(np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(AttimeError, match="eight moments"):
        faults(MOVING, OTHER, WHEN[:4])
