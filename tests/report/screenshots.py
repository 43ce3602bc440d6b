"""Take the pictures of a report that the README shows.

bash scripts/demo.sh
python -m tests.report.screenshots build/demo/run.zarr 0.945
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

import tensorstate as ts
from tests.report.browser import chromium, opened

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main(run, accuracy):
    """Write a picture of a desktop in light colours, and one of a telephone in dark ones."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder) / "report.html"
        ts.open_run(run).report(path, accuracy=float(accuracy))
        with opened(browser, path) as desktop:
            shoot(desktop, 1280, "report.png")
        with opened(browser, path, width=390, scheme="dark") as telephone:
            telephone.page.click("details[id] summary")
            telephone.page.wait_for_selector("details[id] [data-state=drawn]")
            telephone.page.locator("details[id]").first.evaluate("(one) => one.scrollIntoView()")
            shoot(telephone, 390, "report-phone.png")


def shoot(shown, width, name):
    """Save what a window shows, in few colours."""
    shown.page.set_viewport_size({"width": width, "height": 1180})
    shown.wait()
    shown.page.wait_for_timeout(500)  # until the browser has painted what it laid out anew
    path = IMAGES / name
    shown.page.screenshot(path=path)
    save_in_few_colours(path)


def save_in_few_colours(path):
    """Save a picture again, much smaller, and print its size."""
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(128)
    few.save(path, optimize=True)
    print(path, path.stat().st_size)


if __name__ == "__main__":
    main(*sys.argv[1:])
