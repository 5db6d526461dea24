"""The report's page in a real browser, from a file, without a network: what the reader sees."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, sync_playwright

import report_cases as cases
from attime.report import write_page

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESK, TABLET, PHONE = (1100, 900), (720, 1000), (390, 844)

Scheme = Literal["light", "dark"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory):
    """Write the page of a case, once."""
    folder = tmp_path_factory.mktemp("reports")

    def path(case) -> Path:
        to = folder / f"{case.__name__}.html"
        return to if to.exists() else write_page(case(), to)

    return path


@contextmanager
def opened(browser: Browser, path: Path, size: tuple[int, int] = DESK, scheme: Scheme = "light") -> Iterator[Page]:
    """The page with the network off; whatever it complains of or asks for fails the test."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True)
    page, trouble = context.new_page(), list[str]()

    def blocked(dialog: Dialog) -> None:
        trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def watched(request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            trouble.append(request.url)

    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", blocked)
    page.on("request", watched)
    page.goto(path.as_uri())
    settled(page)
    yield page
    context.close()
    assert trouble == []


def until(page: Page, condition: str) -> None:
    """Wait for a condition (the page itself lets nobody evaluate text, so it is asked from outside)."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


def settled(page: Page) -> None:
    """Wait until every chart is drawn for the width it has."""
    until(
        page,
        """[...document.querySelectorAll('.chart')].every((chart) => Math.abs(
        (chart.querySelector('svg.main-svg')?.getBoundingClientRect().width ?? 0) - chart.clientWidth) < 2)""",
    )


def resized(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    settled(page)


def sideways(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


OVERLAPS = """(id) => {
  const boxes = [...document.querySelectorAll(`#${id} .annotation`)]
    .map((each) => [each.textContent, each.querySelector('.annotation-text').getBoundingClientRect()]);
  const clash = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const chart = document.getElementById(id).getBoundingClientRect();
  const out = boxes.filter(([, box]) => box.left < chart.left - 1 || box.right > chart.right + 1).map(([text]) => text);
  return [...out, ...boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([, b]) => clash(a, b))
    .map(([other]) => `${one} on ${other}`))];
}"""


@pytest.mark.parametrize("case", cases.ALL, ids=lambda case: case.__name__)
def test_it_opens_quietly_fits_and_its_names_do_not_collide(browser, report, case):
    with opened(browser, report(case)) as page:
        assert page.title().startswith(case().protocol)
        for size in (DESK, TABLET, PHONE):
            resized(page, size)
            assert sideways(page) == 0
            for place in ("frontier", "curves") if case is not cases.nothing_finished else ():
                assert page.locator(f"#{place} svg.main-svg").count() > 0
                assert page.locator(f"#{place} .scatterlayer .trace").count() > 0
                assert page.evaluate(OVERLAPS, place) == []
            if case in (cases.full, cases.limited):  # a usual run: every mixer is named in the chart
                names = page.locator("#frontier .annotation").all_text_contents()
                wanted = [row.name.split("(")[0][:12] for row in case().rows if row.kind == "mixer"]
                assert [want for want in wanted if not any(name.startswith(want) for name in names)] == []


def test_without_a_finished_mixer_it_says_so(browser, report):
    with opened(browser, report(cases.nothing_finished), PHONE) as page:
        assert page.locator(".chart").count() == 0
        assert page.get_by_text("No mixer finished, so there is nothing to draw").is_visible()
        assert page.get_by_text("There is no winner to use: no mixer finished.").is_visible()


def test_the_choices_redraw_the_charts(browser, report):
    with opened(browser, report(cases.limited)) as page:
        title = page.locator("#frontier .xtitle")
        assert title.text_content() == "State after 64k tokens, log scale"
        page.get_by_role("radio", name="Step time").check()
        assert title.text_content() == "Time of one step after 64k tokens, log scale"
        assert page.evaluate(OVERLAPS, "frontier") == []
        page.get_by_role("radio", name="Loss by tokens").check()
        assert page.locator("#curves .xtitle").text_content() == "Tokens of training"
        resized(page, PHONE)
        assert page.locator("#frontier .xtitle").text_content() == "Time of one step after 64k tokens, log scale"


def test_hovering_tells_every_number(browser, report):
    with opened(browser, report(cases.full)) as page:
        page.locator("#frontier").scroll_into_view_if_needed()
        page.locator("#frontier .trace .point").last.hover(force=True)
        told = page.locator("#frontier .hoverlayer .hovertext")
        told.wait_for()
        text = told.text_content() or ""
        for number in (
            "Softmax",
            "1.412",
            "2 MiB",
            "128 MiB",
            "0.61 ms",
            "14.8 ms",
            "21.4k",
            "212 MiB",
            "422k",
            "0.549",
        ):
            assert number in text


def test_a_name_that_is_markup_is_shown_as_it_is(browser, report):
    with opened(browser, report(cases.hostile)) as page:
        names = page.locator("#frontier .annotation").all_text_contents()
        assert {"<script>alert(1)</script>", "<a href='x'>link</a>", "[red]rich[/red] & co", "{{ 7*7 }} %{x}"} <= set(
            names
        )
        assert page.locator("tbody .name").first.text_content() == "<script>alert(1)</script>"
        assert page.locator("#frontier a, body img, #curves a").count() == 0
        page.locator("#frontier .trace .point").last.hover(force=True)
        told = page.locator("#frontier .hoverlayer .hovertext")
        told.wait_for()
        assert "<script>alert(1)</script>" in (told.text_content() or "")


def test_a_partial_result_says_so(browser, report):
    with opened(browser, report(cases.partial)) as page:
        alarm = page.locator(".alarm")
        assert alarm.get_by_role("heading", name="This result is partial").is_visible()
        assert "NeuralMemory failed: the loss became NaN at step 310; lower --learning-rate." in alarm.inner_text()
        assert "Decay was interrupted." in alarm.inner_text()
        row = page.get_by_role("row").filter(has_text="NeuralMemory")
        assert "failed" in row.inner_text()
        assert "Without a point here: Decay" in page.locator("#frontier-note").inner_text()


def test_the_table_sorts_by_any_column_and_keeps_unknown_numbers_last(browser, report):
    with opened(browser, report(cases.full)) as page:
        names = page.locator("tbody .name")
        assert names.first.text_content() == "Softmax"
        page.get_by_role("button", name="State 64k").click()
        assert names.first.text_content() == "Selective"
        assert page.get_by_role("columnheader", name="State 64k").get_attribute("aria-sort") == "ascending"
        page.get_by_role("button", name="State 64k").click()
        assert names.first.text_content() == "HashedBlocks"
        assert names.last.text_content() in {name for name, _ in cases.FLOORS}


def test_it_reads_without_eyes(browser, report):
    with opened(browser, report(cases.full)) as page:
        assert page.locator("html").get_attribute("lang") == "en"
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((each) => each.tagName)")
        assert levels == ["H1", *["H2"] * 5]
        assert page.get_by_role("heading", level=1).inner_text() == cases.full().answer
        for place in ("frontier", "curves"):
            assert page.locator(f"#{place}").get_attribute("aria-label")
            assert page.locator(f"figure:has(#{place}) figcaption").inner_text()
        assert page.locator("tbody th[scope=row]").count() == len(cases.full().rows)
        assert page.locator(".scroll").get_attribute("tabindex") == "0"
        assert "attime.load(" in page.locator("code").first.inner_text()


def test_it_reads_without_scripts(browser, report):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(report(cases.full).as_uri())
    assert page.get_by_text("The chart needs JavaScript").first.is_visible()
    assert page.locator("tbody tr").count() == len(cases.full().rows)
    context.close()


CONTRAST = """() => {
  const parse = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const bright = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => { for (; node; node = node.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor); if (a > 0) return [r, g, b]; } return [255, 255, 255]; };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode, node = text.parentElement;
    if (!text.data.trim() || node.closest('script, noscript, .hidden, .hoverlayer') || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), svg = node.closest('svg');
    const [r, g, b] = parse(svg ? style.fill : style.color);
    const [low, high] = [bright([r, g, b]), bright(behind(svg ? svg.parentElement : node))].sort((x, y) => x - y);
    if ((high + 0.05) / (low + 0.05) < 4.5) faint.push(text.data.trim());
  }
  return faint;
}"""


@pytest.mark.parametrize("case", [cases.partial, cases.nothing_beats_the_floor], ids=lambda case: case.__name__)
def test_all_text_has_contrast_and_charts_change_colour_with_the_page(browser, report, case):
    behind = "getComputedStyle(document.querySelector('#frontier .main-svg')).backgroundColor"
    with opened(browser, report(case)) as page:
        assert page.evaluate(behind) == "rgb(255, 255, 255)"
        assert page.evaluate(CONTRAST) == []
        page.emulate_media(color_scheme="dark")
        until(page, f"{behind} !== 'rgb(255, 255, 255)'")
        assert page.evaluate(CONTRAST) == []


def test_it_can_be_photographed(browser, report, tmp_path: Path):
    with opened(browser, report(cases.full)) as page:
        shots: list[tuple[tuple[int, int], Scheme]] = [
            (DESK, "light"),
            (DESK, "dark"),
            (PHONE, "dark"),
            (PHONE, "light"),
        ]
        for size, scheme in shots:
            page.emulate_media(color_scheme=scheme)
            resized(page, size)
            picture = page.screenshot(path=tmp_path / f"{size[0]}-{scheme}.png", full_page=True)
            assert len(picture) > 60_000  # a blank page of this size has a tenth of that
