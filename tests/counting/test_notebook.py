"""The bar below a cell, as a real kernel of Jupyter shows it."""

import os
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

COUNT = """
import numpy as np
import tensorstate as ts

rows = np.random.default_rng(0).integers(0, 256, (2_000_000, 16), dtype=np.uint8)
histogram = ts.count_states(rows, memory_limit="150 MiB", progress={progress})
"""

QUICK = """
from tensorstate.counting import progress
progress.SILENT_SECONDS = 0.0
"""

RUN = """
with ts.StateRecorder("conv_1") as recorder:
    recorder.record(np.random.default_rng(0).normal(size=(50, 20, 12)))
    counted = recorder.histogram(progress=True)
"""


def outputs_of(folder, *cells):
    """Run cells in a kernel of this interpreter; return the outputs of each."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [cell.outputs for cell in notebook.cells]


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    # Neither what is installed for the user nor what a kernel remembers.
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def test_a_bar_below_the_cell(tmp_path):
    asked, not_asked, quick, layer = outputs_of(
        tmp_path,
        COUNT.format(progress=True),
        COUNT.format(progress=False),
        QUICK + COUNT.format(progress=None),
        RUN,
    )
    assert not_asked == []
    for outputs, subject, total in (
        (asked, "counting", "2,000,000"),
        (quick, "counting", "2,000,000"),
        (layer, "counting conv_1", "1,000"),
    ):
        (bar,) = outputs  # in one place, however often it was drawn anew
        assert bar.output_type == "display_data"
        assert bar.data["text/plain"].startswith(f"{subject}: {total} of {total} states, ")
        number = total.replace(",", "")
        assert f'<progress max="{number}" value="{number}">' in bar.data["text/html"]
    assert re.search(r"MiB memory, [\d.]+ MiB spilled", asked[0].data["text/html"])
