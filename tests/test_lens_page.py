"""`attime sites` and `attime lens`: what they print, and the page in a real browser, from a file, without a network."""

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from attime import zoo
from attime.cli import main
from attime.errors import AttimeError
from attime.report.lens import Axis, Look, Seen, write_look
from test_page import CHROMIUM, browser, opened
from tiny_models import MODELS

__all__ = ["browser"]

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


def has(name: str) -> bool:
    try:
        zoo.load(name)
    except AttimeError:
        return False
    return True


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages as the command writes them."""
    folder = tmp_path_factory.mktemp("lens")
    runs = {
        "bytes": ["zoo:bytes", "def main(x):\n    return main(x)"],
        "painter": ["zoo:painter", "the red square moves left fast", "--where", "0-1"],
        "painter-latte": ["zoo:painter-latte", "the red square moves left fast", "--where", "temporal", "--step", "3"],
    }
    for name, words in runs.items():
        assert main(["lens", *words, "-o", str(folder / f"{name}.html")]) == 0
    return {name: folder / f"{name}.html" for name in runs}


@needs_chromium
def test_a_text_is_looked_at(browser: Browser, pages, tmp_path):
    with opened(browser, pages["bytes"]) as page:
        assert page.locator(".head").count() == 16
        assert "def main(x)" in page.inner_text("h1")
        page.locator(".head").nth(9).click()
        assert page.inner_text("#map-title") == "language self, layer 2, head 1"
        assert page.locator(".token").count() == len("def main(x):\n    return main(x)")
        assert "one row of a batch" in page.inner_text(".notes")
        assert "Measured: keys it spreads over" in page.inner_text("#map-about")
        page.locator(".token").nth(4).click()
        assert page.inner_text("#row-title") == "What “m” looked at"
        assert page.locator('.token[aria-selected="true"]').count() == 1
        later = page.locator(".token").nth(20).get_attribute("title")
        assert later is not None
        assert later.endswith(": 0.000")  # nobody sees what comes
        page.locator("#map").click(position={"x": 30, "y": 200})
        assert page.inner_text("#row-title") != "What “m” looked at"
        role = page.locator("[data-role]").first
        role.click()
        faint = page.locator(".head.faint").count()
        assert 0 < faint < 16
        assert page.inner_text("#role-about").startswith(role.inner_text())
        role.click()
        assert page.locator(".head.faint").count() == 0


@needs_chromium
@pytest.mark.parametrize(("name", "frames"), [("painter", 4), ("painter-latte", 8)])
def test_frames_stand_beside_their_attention(browser: Browser, pages, name, frames):
    with opened(browser, pages[name], scheme="dark") as page:
        assert page.locator(".frame img").count() == frames
        page.locator(".frame").nth(2).click()
        assert page.locator('.frame[aria-current="true"]').count() == 1
        assert str(page.get_attribute('.frame[aria-current="true"]', "aria-label")).startswith("frame 2,")
        assert page.locator(".strip img").count() == frames
        shares = [
            float(text.split("attention ")[1])
            for text in page.locator(".frame").evaluate_all("all => all.map((each) => each.ariaLabel)")
        ]
        assert sum(shares) == pytest.approx(1, abs=0.05)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    knobs = ["--seconds", "6", "--shot", "6", "--events", "1", "2", "--size", "64"]
    assert main(["world", *knobs, str(path)]) == 0
    return str(path)


@needs_chromium
@pytest.mark.skipif(not has("watcher"), reason="the zoo has no weights of the watcher yet: attime zoo train watcher")
def test_a_film_and_a_question_are_looked_at(browser: Browser, film, tmp_path, capsys):
    to = tmp_path / "a.html"
    assert main(["lens", "zoo:watcher", film, "--ask", "is there a red square ?", "-o", str(to)]) == 0
    said = capsys.readouterr().out
    assert "answer:" in said
    assert "Of 6.0 s of film the first 4 s are shown" in said
    with opened(browser, to, size=(390, 844)) as page:
        assert "the first 4 s are shown" in page.inner_text(".notes")
        assert page.locator(".frame img").count() == 8
        assert page.locator(".token").count() < 20  # words; patches are on the pictures
        picture = page.locator(".frame .picture").nth(3)
        box = picture.bounding_box()
        assert box is not None
        picture.click(position={"x": 0.4 * box["width"], "y": 0.9 * box["height"]})
        assert page.inner_text("#row-title") == "What “picture 3, line 3, column 1” looked at"
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@needs_chromium
def test_a_sound_and_a_question_are_looked_at(browser: Browser, film, tmp_path):
    to = tmp_path / "b.html"
    assert main(["lens", "zoo:listener", film, "--ask", "when does the yellow square appear ?", "-o", str(to)]) == 0
    with opened(browser, to) as page:
        assert "the model takes no more at a time" in page.inner_text(".notes")
        cross = page.locator('.head[aria-label^="decoder cross"]').first
        cross.click()
        assert page.locator(".token.query").count() > 5
        page.locator(".token.query").nth(3).click()
        assert page.locator('.token.query[aria-selected="true"]').count() == 1
        assert page.locator(".ticks span").last.inner_text() == "3.92 s"


def test_more_seconds_and_tokens_may_be_asked_for(film, tmp_path, capsys):
    to = str(tmp_path / "c.html")
    words = ["lens", "zoo:watcher", film, "--ask", "is there a red square ?", "-o", to, "--json"]
    assert main([*words, "--seconds", "2"]) == 0
    short = json.loads(capsys.readouterr().out)
    assert "the first 2 s" in short["notes"][0]
    assert short["page"] == to
    assert main(["lens", "zoo:bytes", "print(1)\n" * 40, "-o", to, "--json"]) == 0
    cut = json.loads(capsys.readouterr().out)
    assert cut["notes"] == ["Of 360 tokens the first 256 are read: --tokens 360 shows all."]
    assert {head["keys"] for head in cut["heads"]} == {256}
    assert main(["lens", "zoo:bytes", "print(1)\n" * 40, "-o", to, "--json", "--tokens", "360"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["notes"] == []
    assert {head["keys"] for head in whole["heads"]} == {360}
    assert any("retrieval" in head["roles"] for head in whole["heads"])
    assert all("tokens back" in head["measures"] for head in whole["heads"])


def test_a_painter_paints_once(tmp_path, monkeypatch):
    from attime.zoo.painting import Painter

    runs = []
    paint = Painter.paint
    monkeypatch.setattr(
        Painter, "paint", lambda self, *words, **more: runs.append(words) or paint(self, *words, **more)
    )
    assert main(["lens", "zoo:painter", "the red square moves left fast", "-o", str(tmp_path / "p.html")]) == 0
    assert len(runs) == 1


def test_sites_are_printed(capsys, tmp_path):
    assert main(["sites", "zoo:painter-latte", "--where", "temporal", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["sites"]
    assert [site["name"] for site in found] == [f"temporal_transformer_blocks.{layer}.attn1" for layer in range(4)]
    for name in ("vit", "latte"):
        model, _ = MODELS[name].made()
        model.save_pretrained(tmp_path / name)
        assert main(["sites", str(tmp_path / name)]) == 0
        assert "spatial" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sites", "nowhere"], "zoo:NAME, or a folder or id"),
        (["sites", "zoo:bytes", "--where", "temporal"], "selects none of the 4 sites"),
        (["lens", "zoo:listener", "film.mp4"], "is asked something: --ask"),
        (["lens", "zoo:painter", "a red square"], "this painter understands"),
        (["lens", "zoo:painter", "the red square moves left fast", "--step", "99"], "the model makes no step 99"),
        (["lens", "zoo:bytes", ""], "the text is empty"),
        (["lens", "zoo:watcher", "film.mp4", "--ask", " "], "--ask needs words; got ' '"),
        (["lens", "nowhere", "text"], "lens needs zoo:NAME, or a folder or id of a model of transformers"),
        (["lens", "nowhere", "text", "--step", "3"], "--step is a denoising step of the zoo's painters"),
        (["lens", "zoo:bytes", "text", "--step", "3"], "--step is a denoising step, and zoo:bytes paints nothing"),
        (["lens", "zoo:bytes", "text", "--ask", "what"], "leave out --ask"),
        (["lens", "zoo:bytes", "text", "--seconds", "3"], "--seconds is for film and sound"),
        (["lens", "zoo:bytes", "text", "--tokens", "3"], "lens shows 8 to 1024 tokens; got --tokens 3"),
        (["lens", "zoo:watcher", "nowhere.mp4", "--ask", "what"], "a file; nowhere.mp4 is none"),
        (["lens", "zoo:listener", "nowhere.wav", "--ask", "what"], "a file; nowhere.wav is none"),
    ],
)
def test_mistakes_are_told_in_one_sentence(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_map_must_fit_its_axes(tmp_path):
    head = Seen(part="a", kind="self", layer=0, head=0, site="a", weights=np.eye(3), rows="text", columns="text")
    with pytest.raises(AttimeError, match=r"has \(3, 3\) for \(2, 2\)"):
        Look(title="a", axes={"text": Axis(labels="ab")}, heads=[head])
    look = Look(title="</script><b>", axes={"text": Axis(labels=["<b>", "</script>", "c"])}, heads=[head])
    with pytest.raises(AttimeError, match="cannot be written"):
        write_look(look, tmp_path / "nowhere" / "page.html")
    written = write_look(look, tmp_path / "page.html").read_text()
    assert "<b>" not in written.split("</style>")[1]
