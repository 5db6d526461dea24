"""Models obey their laws; recipes refuse what they cannot build; saved models come back."""

import re

import numpy as np
import pytest
import torch

from attime import load
from attime.errors import AttimeError
from attime.laws import Law, cases
from attime.models.recipe import Recipe, mixers
from attime.models.trained import save
from attime.part import Part


@pytest.mark.parametrize(("part", "law"), cases("models"))
def test_law(part: Part, law: Law) -> None:
    law.run(part)


@pytest.mark.parametrize("name", sorted(mixers()))
def test_every_causal_mixer_works_in_a_stack(name: str) -> None:
    model = Recipe(mixer=name, dim=16, heads=2, vocabulary=9, block=40.0).build().double().eval()
    tokens = torch.randint(9, (2, 21))
    whole, _ = model(tokens)
    state, pieces = None, []
    for piece in tokens.split(8, dim=1):
        hidden, state = model(piece, state)
        pieces.append(hidden)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-7, atol=1e-8)
    valid = torch.ones(2, 21, dtype=torch.bool)
    valid[0, :6] = False
    torch.testing.assert_close(model(tokens, valid=valid)[0][:1, 6:], model(tokens[:1, 6:])[0], rtol=1e-7, atol=1e-8)


def test_models_of_one_recipe_have_one_size() -> None:
    sizes = {
        name: sum(p.numel() for p in Recipe(mixer=name, vocabulary=64).build().parameters())
        for name in ("Decay", "Softmax")
    }
    assert max(sizes.values()) <= 1.05 * min(sizes.values()), sizes


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (
        Recipe(mixer="Decay", dim=8, heads=2, vocabulary=5).build(seed=seed).state_dict()["embedding.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("mixer", "words"),
    [
        ("Dekay", "there is no mixer 'Dekay'; choose from"),
        ("Decay(window=3)", "has no option 'window'; its options are heads"),
        ("Decay(heads)", "must read name=value"),
        ("nowhere:Mixer", "cannot find Mixer in nowhere"),
        ("torch.nn:Linear", "is not a Mixer"),
        ("torch:Tensor", "is not a Mixer"),
        ("Decay+", "write Name, or Name+Name"),
        ("FlowBidirectional", "there is no mixer"),
        ("attime.attention.linear:FlowBidirectional", "is not a causal mixer"),
    ],
)
def test_recipes_say_what_is_wrong(mixer: str, words: str) -> None:
    with pytest.raises(AttimeError, match=re.escape(words)):
        Recipe(mixer=mixer, vocabulary=5).build()


def test_text_comes_back(tmp_path) -> None:
    recipe = Recipe(mixer="Decay+SlidingWindow(window=8)", dim=16, heads=2, vocabulary=256)
    model = recipe.build(seed=3)
    save(tmp_path, model, recipe, reading={"kind": "text"}, protocol="test/text")
    trained = load(tmp_path)
    tokens = torch.randint(256, (1, 11))
    whole, _ = trained.step(tokens)
    first, state = trained.step(tokens[:, :4])
    second, _ = trained.step(tokens[:, 4:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=1e-4, atol=1e-4)
    text = trained.generate("for x in ", 7)
    assert isinstance(text, str)
    assert len(trained.generate(b"ab", 7)) == 7
    assert trained.generate([1, 2], 3, temperature=0.0) == trained.generate([1, 2], 3, temperature=0.0)
    with pytest.raises(AttimeError, match=r"trained on text and cannot forecast; use generate"):
        trained.forecast([1.0, 2.0], 3)
    with pytest.raises(AttimeError, match="at least one token"):
        trained.generate("", 3)


def test_series_comes_back_in_its_units(tmp_path) -> None:
    recipe = Recipe(mixer="Decay", dim=16, heads=2, channels=2, horizon=5, memory=10.0)
    reading = {
        "kind": "series",
        "names": ["a", "b"],
        "mean": [100.0, -5.0],
        "std": [10.0, 0.1],
        "lookback": 10,
        "freq": "1h",
    }
    save(tmp_path, recipe.build(), recipe, reading=reading)
    trained = load(tmp_path)
    history = np.stack([np.full(20, 130.0), np.full(20, -4.9)], axis=1)
    forecast = trained.forecast(history, 12)  # an untrained head adds nothing to the level
    np.testing.assert_allclose(forecast, np.repeat(history[:1], 12, axis=0), rtol=1e-5)
    assert trained.forecast(history).shape == (5, 2)
    for bad, words in ((history[:, 0], "2 channels: a, b"), (history * np.nan, "without gaps")):
        with pytest.raises(AttimeError, match=words):
            trained.forecast(bad, 3)


def test_items_come_back(tmp_path) -> None:
    recipe = Recipe(mixer="Decay", dim=16, heads=2, vocabulary=7)
    save(
        tmp_path,
        recipe.build(),
        recipe,
        reading={"kind": "items", "items": ["x", "y", "z", "u", "v", "w"], "offset": 1},
    )
    trained = load(tmp_path)
    best = trained.recommend(["x", "never seen", "z"], k=10)
    assert sorted(best) == ["u", "v", "w", "y"]
    assert trained.recommend(["x", "z"], k=2) == best[:2]
    with pytest.raises(AttimeError, match="at least one of the 6 items"):
        trained.recommend(["never seen"])


def test_foreign_folders_are_refused(tmp_path) -> None:
    with pytest.raises(AttimeError, match="holds no trained model"):
        load(tmp_path)
    (tmp_path / "model.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(AttimeError, match="does not hold a model"):
        load(tmp_path)
