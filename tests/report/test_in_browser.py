"""Pages as people see them: opened in Chromium, from a file."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from zarr.storage import MemoryStore

from tensorstate.report import layer_figures
from tests.report.browser import opened
from tests.report.runs import (
    HOSTILE,
    HOSTILE_LABELS,
    recorded,
    with_empty_layer,
    with_variable_positions,
)

WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    run.report(path, accuracy=0.945)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_drawn_and_the_page_fits(browser, path, width, scheme):
    with opened(browser, path, width=width, scheme=scheme) as shown:
        before = len(shown.painted())
        shown.open_all()
        painted = shown.painted()
        assert len(painted) > before > 0
        assert min(painted) > 1000
        sizes = shown.page.evaluate(
            "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert sizes[0] <= sizes[1] == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_hinders_people(browser, path, width, scheme):
    """What axe-core finds: contrast, names of controls, order of headings, and more."""
    with opened(browser, path, width=width, scheme=scheme) as shown:
        shown.open_all()
        found = Axe().run(shown.page)
        assert found.violations_count == 0, found.generate_report()


def test_every_control_is_reached_by_keyboard(browser, path):
    with opened(browser, path) as shown:
        page = shown.page
        selector = "a[href], button, summary, [tabindex='0']"
        seen = []
        for _ in range(page.locator(selector).count() + 5):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """(selector) => {
                  const at = document.activeElement, style = getComputedStyle(at);
                  const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1;
                  return [[...document.querySelectorAll(selector)].indexOf(at), ring];
                }""",
                selector,
            )
            if focused[0] >= 0:
                assert focused[1], f"control {focused[0]} shows no focus"
                seen.append(focused[0])
        assert set(seen) == set(range(page.locator(selector).count()))
        layer = page.locator("details[id]").last
        layer.locator("summary").focus()
        page.keyboard.press("Enter")
        shown.page.wait_for_function(
            "() => document.querySelector('details[id]:last-of-type [data-state=drawn]')"
        )
        shown.wait()
        assert min(shown.painted()) > 1000
        assert layer.get_attribute("open") is not None


def test_a_click_downloads_the_numbers(browser, path, run):
    with opened(browser, path) as shown:
        shown.page.click("details#layer-0 summary h3")
        button = '[data-name="rank_frequency"] button'
        with shown.page.expect_download() as download:
            shown.page.click(button)
        assert download.value.suggested_filename.endswith("conv_1_states-rank_frequency.csv")
        text = download.value.path().read_text()
        expected = layer_figures.rank_frequency(run["conv_1_states"]).data
        pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text), index_col=0), expected)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_pointer_is_told_the_numbers(browser, path, scheme):
    with opened(browser, path, scheme=scheme) as shown:
        shown.page.click("details#layer-0 summary h3")
        shown.wait()
        for figure in ("efficiency", "rank_frequency"):
            assert re.search(r"\d", shown.tooltip_of(figure)), figure
            assert shown.tooltip_contrast() >= 4.5


def test_the_button_changes_the_colours(browser, path):
    with opened(browser, path) as shown:
        page = shown.page

        def colours():
            plots = page.evaluate(
                "() => getComputedStyle(document.querySelector('.plot'))"
                ".getPropertyValue('--bk-axis-label-text-color')"
            )
            return page.evaluate("() => getComputedStyle(document.body).backgroundColor"), plots

        light = colours()
        page.click("text=Dark")
        dark = colours()
        assert light[0] != dark[0]
        assert light[1] != dark[1]
        page.click("text=Light")
        assert colours() == light


def test_it_prints(browser, path):
    with opened(browser, path, scheme="dark") as shown:
        shown.open_all()
        printed = shown.page.pdf()
        assert printed.startswith(b"%PDF")
        assert len(re.findall(rb"/Type /Page\b", printed)) >= 2
        shown.page.emulate_media(media="print")
        assert not shown.page.locator(".figure button").first.is_visible()


def test_names_and_labels_are_text(browser, tmp_path):
    layers = dict.fromkeys(HOSTILE, (4, 5))
    labels = np.resize(np.array(HOSTILE_LABELS), 60)
    run = recorded(MemoryStore(), layers, labels=labels)
    title = "".join(HOSTILE_LABELS[:7])
    run.report(tmp_path / "report.html", title=title)
    for width in WIDTHS:
        with opened(browser, tmp_path / "report.html", width=width) as shown:
            page = shown.page
            shown.open_all()
            assert page.evaluate("() => window.hacked") is None
            assert page.title() == " ".join(title.split())
            assert page.locator("details h3").all_text_contents() == list(HOSTILE)
            assert page.locator("table .long").all_text_contents() == list(HOSTILE)
            assert page.locator("img").count() == 0
            assert page.locator("script").count() == 2 + 1 + len(HOSTILE)
            assert page.evaluate("() => document.documentElement.scrollWidth") == width
            assert min(shown.painted()) > 1000


@pytest.mark.timeout(1500)
def test_two_hundred_layers(browser, tmp_path):
    layers = {f"block_{number:03}_conv_states": (9, 24) for number in range(200)}
    run = recorded(MemoryStore(), layers, labels=[0, 1, 2, 3] * 15)
    path = run.report(tmp_path / "report.html", accuracy=0.9).save(tmp_path / "report.html")
    assert path.stat().st_size < 5_000_000
    for width in WIDTHS:
        with opened(browser, path, width=width) as shown:
            assert shown.page.locator("details[id]").count() == 200
            shown.page.click('a[href="#layer-150"]')
            shown.page.wait_for_selector("#layer-150 [data-state=drawn]")
            shown.wait()
            assert min(shown.painted()) > 1000


RUNS = {
    "one layer": lambda: recorded(MemoryStore(), {"only": (1, 3)}),
    "one instance": lambda: recorded(MemoryStore(), {"only": (4, 3)}, instances=1),
    "empty layer": lambda: with_empty_layer(MemoryStore()),
    "variable positions": lambda: with_variable_positions(MemoryStore()),
    "live": lambda: recorded(MemoryStore(), {"spikes": (5, 6)}, histogram="live"),
    "live, wide": lambda: recorded(MemoryStore(), {"spikes": (5, 200)}, histogram="live"),
    "no neuron ever fires": lambda: recorded(MemoryStore(), {"dead": (5, 6)}, threshold=1e9),
}


@pytest.mark.parametrize("kind", RUNS)
def test_runs_of_all_kinds(browser, tmp_path, kind):
    run = RUNS[kind]()
    run.report(tmp_path / "report.html")
    with opened(browser, tmp_path / "report.html") as shown:
        shown.open_all()
        assert all(painted > 1000 for painted in shown.painted())
        text = shown.page.inner_text("main")
        assert "--accuracy" in text
        for word in ("nan", "None", "NaN", "undefined"):
            assert not re.search(rf"\b{word}\b", text), word
        if kind == "empty layer":
            assert "holds no states" in text
        if kind.startswith("live"):
            assert "live histogram" in text
        if kind == "variable positions":
            assert "vary" in text


def test_runs_side_by_side(browser, tmp_path, run):
    layers = {"conv_1_states": (16, 10), "another": (2, 5)}
    other = recorded(tmp_path / "other.zarr", layers, instances=30)
    run.report(tmp_path / "report.html", accuracy=[0.9, 0.8], compare=other)
    with opened(browser, tmp_path / "report.html") as shown:
        shown.open_all()
        layer = shown.page.locator("details[id]").first
        rows = layer.locator(".figures").filter(has=shown.page.locator(".figure + .figure"))
        left, right = rows.first.locator(".figure").all()
        assert "small.zarr" in left.inner_text()
        assert "other.zarr" in right.inner_text()
        assert left.bounding_box()["y"] == right.bounding_box()["y"]
        assert min(shown.painted()) > 1000
        found = Axe().run(shown.page)
        assert found.violations_count == 0, found.generate_report()


def test_in_a_notebook_it_is_drawn_within_the_page(browser, tmp_path, run):
    cell = tmp_path / "notebook.html"
    cell.write_text(f"<!doctype html><meta charset=utf-8>{run.report()._repr_html_()}")
    page = browser.new_page()
    complaints = []
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    page.goto(cell.as_uri())
    page.frame_locator("iframe").locator("[data-state=drawn]").first.wait_for()
    assert complaints == []
    page.close()
