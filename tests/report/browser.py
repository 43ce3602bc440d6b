"""A real browser: Chromium without a window, in which pages are opened as people open them."""

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What is told of the canvases of all plots, which are in shadow trees: size, and painted pixels.
_CANVASES = """
() => {
  const found = [];
  const look = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.tagName === "CANVAS" && child.width > 0 && child.height > 0) {
        const data = child.getContext("2d").getImageData(0, 0, child.width, child.height).data;
        let painted = 0;
        for (let i = 3; i < data.length; i += 4) if (data[i] > 0) painted++;
        found.push(painted);
      }
      if (child.shadowRoot) look(child.shadowRoot);
    }
  };
  return [...document.querySelectorAll(".plot")].map((plot) => {
    found.length = 0;
    look(plot);
    return Math.max(0, ...found);
  });
}
"""

_TOOLTIPS = """
() => {
  const found = [];
  const look = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.shadowRoot) {
        if (String(child.className).includes("Tooltip") && child.checkVisibility()) {
          const rows = child.shadowRoot.querySelectorAll(".bk-tooltip-content");
          found.push([...rows].map((row) => row.innerText).join(" "));
        }
        look(child.shadowRoot);
      }
    }
  };
  look(document);
  return found.join(" ");
}
"""

_COLOURS_OF_TOOLTIPS = """
() => {
  const found = [];
  const look = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.shadowRoot) {
        for (const label of child.shadowRoot.querySelectorAll(".bk-tooltip-row-label")) {
          const back = getComputedStyle(child).backgroundColor;
          found.push([getComputedStyle(label).color, back]);
        }
        look(child.shadowRoot);
      }
    }
  };
  look(document);
  return found;
}
"""


def find_chromium():
    """Return where Chromium is, or skip the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium, chromium-browser or google-chrome is installed")


@contextmanager
def chromium():
    """Start Chromium, which is ended afterwards."""
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


class OpenPage:
    """A page that is open in a browser, and what the browser says of it."""

    def __init__(self, browser, path, *, width=1280, scheme="light"):
        self.page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.said, self.requests = [], []
        self.page.on("console", lambda message: self.said.append((message.type, message.text)))
        self.page.on("pageerror", lambda error: self.said.append(("error", str(error))))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = Path(path).resolve().as_uri()
        self.page.goto(self.address)
        self.wait()

    def wait(self):
        """Wait until everything that was asked for is drawn."""
        self.page.wait_for_function(
            """() => [...document.querySelectorAll("[data-state]")].every(
                 (one) => one.dataset.state !== "drawing"
               ) && Bokeh.documents.every((one) => one.is_idle)"""
        )
        # The browser paints what is drawn in its next frame.
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")

    def open_all(self):
        """Open every layer."""
        self.page.click("#open-all")
        self.page.wait_for_function(
            """() => [...document.querySelectorAll("[data-figures]")].every(
                 (one) => one.dataset.state === "drawn"
               )""",
            timeout=120_000,
        )
        self.wait()

    def painted(self):
        """Return how many pixels of each plot are painted."""
        return self.page.evaluate(_CANVASES)

    def tooltip_of(self, figure):
        """Move the mouse over a figure until it tells something, and return what."""
        plot = self.page.locator(f'[data-name="{figure}"] .plot').first
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        for down in range(1, 20):
            for across in range(2, 40):
                self.page.mouse.move(
                    box["x"] + box["width"] * across / 40, box["y"] + box["height"] * down / 20
                )
                if text := self.page.evaluate(_TOOLTIPS):
                    return text
        return ""

    def tooltip_contrast(self):
        """Return the least contrast of names in a tooltip that is shown, as WCAG defines it."""
        pairs = self.page.evaluate(_COLOURS_OF_TOOLTIPS)
        return min(_contrast(*(_luminance(colour) for colour in pair)) for pair in pairs)

    def assert_quiet(self):
        """Check that the browser neither complained nor asked for anything but the page."""
        # The only complaint is about `painted` above.
        complaints = [
            text
            for kind, text in self.said
            if kind in ("error", "warning") and "willReadFrequently" not in text
        ]
        assert not complaints, complaints
        assert set(self.requests) == {self.address}, self.requests
        states = self.page.locator("[data-state]").evaluate_all(
            "(all) => all.map((one) => one.dataset.state)"
        )
        assert set(states) <= {"drawn"}


def _luminance(colour):
    """Return the relative luminance of "rgb(r, g, b)"."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(one, other):
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


@contextmanager
def opened(browser, path, **options):
    """Open a page; afterwards check that the browser had nothing to complain of, and close it."""
    one = OpenPage(browser, path, **options)
    try:
        yield one
        one.assert_quiet()
    finally:
        one.page.close()
