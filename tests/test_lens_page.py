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
        shares = [
            float(text.split("attention ")[1])
            for text in page.locator(".frame").evaluate_all("all => all.map((each) => each.ariaLabel)")
        ]
        assert sum(shares) == pytest.approx(1, abs=0.05)


@needs_chromium
@pytest.mark.skipif(not has("watcher"), reason="the zoo has no weights of the watcher yet: attime zoo train watcher")
def test_a_film_and_a_question_are_looked_at(browser: Browser, tmp_path, capsys):
    assert (
        main(
            ["world", "--seconds", "4", "--shot", "4", "--events", "1", "2", "--size", "64", str(tmp_path / "film.mp4")]
        )
        == 0
    )
    assert (
        main(
            [
                "lens",
                "zoo:watcher",
                str(tmp_path / "film.mp4"),
                "--ask",
                "is there a red square ?",
                "-o",
                str(tmp_path / "a.html"),
            ]
        )
        == 0
    )
    assert "answer:" in capsys.readouterr().out
    with opened(browser, tmp_path / "a.html") as page:
        assert page.locator(".frame img").count() == 8


@needs_chromium
def test_a_sound_and_a_question_are_looked_at(browser: Browser, tmp_path):
    assert (
        main(
            ["world", "--seconds", "4", "--shot", "4", "--events", "1", "2", "--size", "64", str(tmp_path / "film.mp4")]
        )
        == 0
    )
    page_at = tmp_path / "b.html"
    assert (
        main(
            [
                "lens",
                "zoo:listener",
                str(tmp_path / "film.mp4"),
                "--ask",
                "when does the yellow square appear ?",
                "-o",
                str(page_at),
            ]
        )
        == 0
    )
    with opened(browser, page_at) as page:
        cross = page.locator('.head[aria-label^="decoder cross"]').first
        cross.click()
        assert page.locator(".token.query").count() > 5
        page.locator(".token.query").nth(3).click()
        assert page.locator('.token.query[aria-selected="true"]').count() == 1


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
        (["lens", "nowhere", "text"], "needs a folder or id of a language model"),
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
