"""Take the picture of the paper's experiments that the documentation shows.

python -m tests.paper.pictures scripts/paper/table.parquet
"""

import sys
import tempfile
from pathlib import Path

from scripts.paper.page import make_page
from scripts.paper.table import load_table
from tests.report.browser import chromium, opened
from tests.report.screenshots import save_in_few_colours

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "paper-width.png"


def main(table):
    """Write a picture of efficiency against width, in both architectures."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = make_page(load_table(Path(table))).save(Path(folder) / "report.html")
        with opened(browser, path) as shown:
            shown.page.wait_for_timeout(500)  # until the browser has painted what is drawn
            shown.page.locator(".figures").first.screenshot(path=PICTURE)
    save_in_few_colours(PICTURE)


if __name__ == "__main__":
    main(*sys.argv[1:])
