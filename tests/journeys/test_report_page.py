"""The report in a real browser: quiet, exact, usable by keyboard, inert against hostile words, readable everywhere.

Needs chromium and Playwright for Python. Without them the tests are skipped, except in CI, where they fail. With
MANYLABEL_SHOTS=FOLDER the screenshots are kept there.
"""

import importlib.util
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from manylabel.report.explorer import cut_tables
from manylabel.report.render import render_comparison, render_report

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).resolve().parents[1] / "unit" / "report" / "conftest.py"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def example():
    """The inputs that the unit tests of the report use."""
    spec = importlib.util.spec_from_file_location("report_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chromium_path():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    missing = [] if found else ["chromium"]
    if importlib.util.find_spec("playwright") is None:
        missing.append("playwright")
    if missing:
        message = f"{' and '.join(missing)} absent: apt install chromium, pip install playwright"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def browser():
    path = chromium_path()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = Path(os.environ.get("MANYLABEL_SHOTS") or tmp_path_factory.mktemp("shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def inputs():
    return example().inputs_of(1500, 28)


@pytest.fixture(scope="module")
def pages(tmp_path_factory, inputs):
    """Files of the three kinds of page: a report, one of hostile words, a comparison."""
    made = example()
    texts = tuple(made.HOSTILE[row % len(made.HOSTILE)] for row in range(600))
    names = made.HOSTILE
    hostile = made.inputs_of(600, len(names), names=names, texts=texts, title=names[1], command=names[0])
    a, b = made.inputs_of(500, 28, title="model A"), made.inputs_of(500, 28, title="model B")
    found = {
        "a": 0.5,
        "b": 0.52,
        "difference": 0.02,
        "low": 0.01,
        "high": 0.03,
        "p": 0.001,
        "p_corrected": 0.01,
    }
    comparison = {
        "conclusion": "Model B is better: macro average precision differs by 0.020 [0.010, 0.030].",
        "figures": {"macro/average_precision": found},
        "labels": {name: {"average_precision": found, "f1": found, "roc_auc": found} for name in a.labels},
    }
    folder = tmp_path_factory.mktemp("pages")
    written = {
        "report": render_report(inputs),
        "hostile": render_report(hostile),
        "comparison": render_comparison(a, b, comparison),
    }
    for name, html in written.items():
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in written}


@pytest.fixture
def opened(browser):
    """A function that opens a page; at the end of the test nothing must have been said, asked or requested."""
    contexts, events = [], []

    def open_page(path, *, width=1440, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        address = path.as_uri()
        page.on("console", lambda message: events.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: events.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (events.append("dialog"), dialog.dismiss()))
        page.on("popup", lambda _: events.append("popup"))
        page.on(
            "request",
            lambda request: (
                None if request.url.split("#")[0] == address else events.append(f"request: {request.url}")
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert events == []


def shown_by(card):
    """Every number of a card by the name of its place."""
    places = "[...card.querySelectorAll('[data-is]')].map(place => [place.dataset.is, place.textContent])"
    return card.evaluate(f"card => Object.fromEntries({places})")


@pytest.mark.parametrize("name", ["report", "hostile", "comparison"])
def test_pages_open_without_a_word_or_a_request(opened, pages, name):
    page = opened(pages[name])
    assert page.locator("main section").count() >= 5
    page.mouse.wheel(0, 50_000)


def test_a_fault_of_the_page_would_be_heard(browser, tmp_path):
    """The listeners above hear what they listen for."""
    path = tmp_path / "bad.html"
    path.write_text('<img src="https://example.invalid/x.png"><script>alert(1); nowhere()</script>')
    heard = []
    page = browser.new_page()
    page.on("request", lambda request: heard.append(request.url))
    page.on("pageerror", lambda error: heard.append("error"))
    page.on("dialog", lambda dialog: (heard.append("dialog"), dialog.dismiss()))
    page.goto(path.as_uri())
    page.close()
    assert {"https://example.invalid/x.png", "error", "dialog"} <= set(heard)


def test_the_policy_stops_a_script_that_got_in(browser, pages, tmp_path):
    """Should an escape ever be forgotten, the page still runs no script, style or request of others."""
    html = pages["report"].read_text(encoding="utf-8")
    path = tmp_path / "injected.html"
    image = '<img src="https://example.invalid/x.png" onerror="document.title = 1">'
    injected = f'<script>document.title = "run"</script>{image}'
    path.write_text(html.replace("</main>", injected + "</main>"), encoding="utf-8")
    requests = []
    page = browser.new_page()
    page.on("requestfinished", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    assert page.title() == "tiny model on mails.csv"
    assert requests in ([path.as_uri()], [])
    page.close()


KEYS = (
    (0, ["ArrowRight"] * 3),
    (3, ["Home"]),
    (3, ["End"]),
    (9, ["ArrowLeft"] * 12),
    (14, ["PageDown", "PageDown", "ArrowUp"]),
    (27, ["Home", "ArrowRight"]),
)


def test_sliders_by_keyboard_show_what_python_computes(opened, pages, inputs):
    page = opened(pages["report"])
    tables = cut_tables(inputs, list(range(28)))
    stops = set()
    for label, keys in KEYS:
        slider = page.locator(f"#slider-{label}")
        slider.focus()
        for key in keys:
            page.keyboard.press(key)
        index = int(slider.input_value())
        assert index != tables[label].start
        stops.add((label, index))
        expected = tables[label].at(index).shown()
        assert shown_by(page.locator(".card").nth(label)) == expected
        assert slider.get_attribute("aria-valuetext") == expected["threshold"]
        said = page.locator("#live").text_content()
        assert (
            f"{expected['tp']} right alerts, {expected['fp']} false alarms, {expected['fn']} misses" in said
        )
    assert (3, len(tables[3].cuts_K) - 1) in stops
    assert (27, 1) in stops
    assert page.locator("#total-changed").text_content() == "5"


def test_every_stop_of_a_slider_is_exact(opened, pages, inputs):
    page = opened(pages["report"])
    table = cut_tables(inputs, list(range(28)))[20]
    data = "JSON.parse(document.getElementById('explorer-data').textContent)"
    cuts = page.evaluate(f"{data}.labels[20].cuts")
    slider, card = page.locator("#slider-20"), page.locator(".card").nth(20)
    slider.focus()
    page.keyboard.press("Home")
    assert cuts == table.cuts_K.tolist()
    assert len(cuts) >= 120
    for index in range(len(cuts)):
        assert shown_by(card) == table.at(index).shown()
        page.keyboard.press("ArrowRight")


def test_costs_and_reset_by_keyboard(opened, pages, inputs):
    page = opened(pages["report"])
    tables = cut_tables(inputs, list(range(28)))
    page.locator("#cost-fn").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("20")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.5")
    for label in (0, 13, 27):
        expected = tables[label].at(tables[label].start).shown(20.0, 0.5)
        assert shown_by(page.locator(".card").nth(label)) == expected
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "reset"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "slider-0"
    page.keyboard.press("End")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    for label in (0, 13, 27):
        assert shown_by(page.locator(".card").nth(label)) == tables[label].at(tables[label].start).shown()
    assert page.locator("#cost-fn").input_value() == "1"
    assert page.locator("#live").text_content() == "All thresholds and costs are as they were."


@pytest.mark.parametrize("typed", ["", "-3", "1e9"])
def test_a_cost_that_is_none_is_marked_and_counts_as_one(opened, pages, inputs, typed):
    page = opened(pages["report"])
    tables = cut_tables(inputs, list(range(28)))
    page.locator("#cost-fn").fill(typed)
    assert page.locator("#cost-fn").get_attribute("aria-invalid") == "true"
    assert shown_by(page.locator(".card").nth(0)) == tables[0].at(tables[0].start).shown()


@pytest.mark.parametrize("name", ["report", "hostile"])
def test_copy_as_config(opened, pages, inputs, name):
    page = opened(pages[name], permissions=["clipboard-read", "clipboard-write"])
    page.locator("#slider-2").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.locator("#copy").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('live').textContent.includes('copied')")
    text = page.evaluate("navigator.clipboard.readText()")
    assert text == page.locator("#config").input_value()
    copied = json.loads(text)["thresholds"]
    data = json.loads(page.locator("#explorer-data").text_content())["labels"]
    assert list(copied) == [label["name"] for label in data]
    for index, label in enumerate(data):
        assert copied[label["name"]] == label["cuts"][label["start"] + (5 if index == 2 else 0)]
    if name == "report":
        assert [value for at, value in enumerate(copied.values()) if at != 2] == [
            value for at, value in enumerate(inputs.thresholds.values_L.tolist()) if at != 2
        ]
    else:
        assert list(copied) == list(example().HOSTILE)
        assert all(letter == "\n" or letter.isprintable() for letter in text)


def test_hostile_words_are_inert(opened, pages):
    page = opened(pages["hostile"])
    for label in range(7):
        page.locator(f"#slider-{label}").focus()
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert page.locator("script").count() == 2
    assert page.locator("img, iframe, object, embed, form").count() == 0
    handlers = "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on')))"
    assert page.evaluate(f"{handlers}.length") == 0
    assert page.locator("h3", has_text="<script>alert(1)</script>").count() == 1
    hidden = r"/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/"
    assert not page.evaluate(
        f"{hidden}.test(document.body.innerText + document.getElementById('config').value)"
    )
    assert page.locator("h3", has_text="{{ 7*7 }}").count() == 1


@pytest.mark.parametrize("name", ["report", "hostile", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_fits_and_can_be_read(opened, pages, shots, name, scheme, width):
    page = opened(pages[name], width=width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate(CUT_OFF) == []
    page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)


def test_poor_contrast_and_cut_off_words_would_be_found(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text('<main><p style="color:#999">faint</p><p style="width:200vw">wide</p></main>')
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.evaluate(LOW_CONTRAST) == ["P "]
    assert [found[:8] for found in page.evaluate(CUT_OFF)] == ["<p style"]
    page.close()


# Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3), by the formula given there.
LOW_CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const found = new Set();
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const fore = parse(e instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(fore), light(behind(e))].sort((p, q) => q - p);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.add(`${e.tagName} ${e.className.baseVal ?? e.className}`);
  }
  return [...found];
}"""

# Elements that reach beyond the window and are not in a container that scrolls.
CUT_OFF = """() => [...document.querySelectorAll("main *")]
  .filter((e) => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1)
  .filter((e) => !e.closest(".scroll, .pairs, .unseen"))
  .map((e) => e.outerHTML.slice(0, 80))"""


def test_dark_is_dark(opened, pages):
    colors = [
        opened(pages["report"], color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    sums = [sum(int(part) for part in color.strip("rgb()").split(", ")) for color in colors]
    assert sums[0] > 700
    assert sums[1] < 120


def test_everything_has_a_name_for_screen_readers(opened, pages):
    for name in ("report", "comparison"):
        page = opened(pages[name])
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("h1").count() == page.locator("main").count() == 1
        assert page.locator("table").count() == page.locator("table > caption").count()
        assert page.locator("thead th:not([scope=col]), tbody th:not([scope=row])").count() == 0
        assert page.locator("svg:not([aria-hidden]):not([role=img][aria-label])").count() == 0
        assert page.locator(".scroll:not([tabindex='0'][aria-label])").count() == 0
        for control in page.locator("input, textarea").all():
            assert page.locator(f"label[for='{control.get_attribute('id')}']").count() == 1
        levels = [
            int(tag[1])
            for tag in page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => e.tagName)")
        ]
        assert all(after - before <= 1 for before, after in pairwise(levels))


def test_the_first_tab_skips_to_the_report_and_focus_is_seen(opened, pages):
    page = opened(pages["report"])
    assert not page.get_by_text("Scripts are off").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("#slider-0").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_print_shows_everything_and_no_controls(opened, pages, shots, browser):
    page = opened(pages["report"], color_scheme="dark")
    assert page.locator("details:not([open])").count() > 0
    content = page.pdf(path=shots / "report.pdf", format="A4", print_background=True)
    assert content.startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    for hidden in ("nav", "#slider-0", "#reset", "#copy"):
        assert not page.locator(hidden).is_visible()
    assert page.locator(".card").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_without_scripts_the_models_own_thresholds_are_shown(opened, pages, inputs):
    page = opened(pages["report"], java_script_enabled=False)
    table = cut_tables(inputs, list(range(28)))[5]
    assert shown_by(page.locator(".card").nth(5)) == table.at(table.start).shown()
    assert page.get_by_text("Scripts are off").is_visible()


def test_the_report_of_a_trained_model(opened, tiny_model, tiny_mails, tmp_path):
    from manylabel.config.schema import DataSettings
    from manylabel.inference.load import load_model
    from manylabel.recipes.breakdown import Breakdown
    from manylabel.recipes.report import Page, report_model
    from manylabel.training.observers import SilentObserver

    model = load_model(tiny_model)
    settings = model.bundle.settings.evaluation.model_copy(update={"resamples": 50})
    out = tmp_path / "report.html"
    report = report_model(
        model,
        tiny_mails,
        Page(out, title="tiny"),
        wanted=Breakdown(by_length=True),
        options=DataSettings(),
        settings=settings,
        observer=SilentObserver(),
    )
    page = opened(out, width=360)
    assert report.num_bytes == out.stat().st_size
    assert page.locator(".verdict h2").text_content().strip().endswith(report.verdict.capitalize())
    assert page.locator(".card").count() == 3
    page.locator("#slider-1").focus()
    page.keyboard.press("Home")
    assert shown_by(page.locator(".card").nth(1))["fn"] == "0"
