"""Pages as text: what is in them, how they are written, and what is refused."""

import base64
import gzip
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from bokeh.embed import json_item
from zarr.storage import LocalStore, MemoryStore

import tensorstate as ts
from tensorstate.report import layer_figures, network_figures
from tensorstate.report.page import named_runs
from tests.report.runs import HOSTILE, HOSTILE_LABELS, recorded, with_empty_layer


class Parsed(HTMLParser):
    """What a browser makes of a page: tags with attributes, scripts, and cells of tables."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.cells = [], {}, []
        self._script = self._cell = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self._script = dict(attributes).get("id") or f"program {len(self.scripts)}"
            self.scripts[self._script] = ""
        if tag in ("td", "th"):
            self.cells.append("")
            self._cell = tag

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None
        if tag == self._cell:
            self._cell = None

    def handle_data(self, data):
        if self._script is not None:
            self.scripts[self._script] += data
        elif self._cell is not None:
            self.cells[-1] += data

    def figures(self, payload):
        packed = base64.b64decode(self.scripts[payload])
        return [figure for group in json.loads(gzip.decompress(packed)) for figure in group]


@pytest.fixture(scope="module")
def page(run):
    return Parsed(run.report(accuracy=0.9).html)


def test_the_table_has_the_numbers_of_the_summary(page, run):
    text = " ".join(page.cells)
    for name, row in run.summary().iterrows():
        assert name in page.cells
        assert f"{row['distinct']:,}" in page.cells
        interval = run[name].entropy_interval()
        shown = f"{row['entropy']:.3f} bits{interval['low']:.3f} to {interval['high']:.3f}"
        assert shown in page.cells
        assert f"{100 * row['efficiency']:.3g} %" in page.cells
        assert row["flag"] in text


def test_payloads_are_the_figures(page, run):
    names = [figure["name"] for figure in page.figures("figures-layer-0")]
    assert names == [
        "rank_frequency",
        "spectrum",
        "rarefaction",
        "firing_rates",
        "most_frequent_states",
        "label_overlap",
    ]
    network = page.figures("figures-network")
    assert [figure["name"] for figure in network] == ["efficiency", "aiq", "label_information"]
    for shown, figure in (
        (page.figures("figures-layer-1")[0], layer_figures.rank_frequency(run["dense_states"])),
        (network[0], network_figures.efficiency(run)),
    ):
        for attribute in ("title", "alternative", "meaning", "doubt"):
            assert shown[attribute] == getattr(figure, attribute)
        assert shown["csv"] == figure.data.to_csv(lineterminator="\n")
        assert shown["item"].keys() == json_item(figure.plot).keys()


def test_only_our_scripts_run_and_nothing_is_loaded(page):
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    programs = [text for name, text in page.scripts.items() if name.startswith("program")]
    assert len(programs) == 2
    allowed = re.search("script-src ([^;]*)", policy)[1].split()
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in programs]
    assert allowed == [f"'sha256-{digest.decode()}'" for digest in hashes]
    for tag, attributes in page.tags:
        for name in attributes:
            assert not name.startswith("on"), (tag, name)
        for name in ("src", "href", "srcset", "action"):
            assert re.match(r"$|#|data:,$", attributes.get(name) or ""), (tag, attributes)


def test_hostile_names_add_no_tag_and_no_script():
    def tags_of(names, labels, title):
        run = recorded(
            MemoryStore(), dict.fromkeys(names, (2, 3)), labels=np.resize(np.array(labels), 60)
        )
        report = run.report(title=title, accuracy=0.5)
        return Parsed(report.html)

    tame = [f"layer {number}" for number in range(len(HOSTILE))]
    good = tags_of(tame, [f"label {i}" for i in range(len(HOSTILE_LABELS))], "title")
    bad = tags_of(HOSTILE, HOSTILE_LABELS, "".join(HOSTILE_LABELS))
    assert [tag for tag, _ in good.tags] == [tag for tag, _ in bad.tags]
    assert good.scripts.keys() == bad.scripts.keys()
    assert set(HOSTILE) <= set(bad.cells)
    for name, text in bad.scripts.items():
        if not name.startswith("program"):
            assert re.fullmatch("[A-Za-z0-9+/=]+", text)


def test_files_of_numbers_have_tame_names():
    run = recorded(MemoryStore(), dict.fromkeys(HOSTILE, (2, 3)))
    page = Parsed(run.report().html)
    for number in range(len(HOSTILE)):
        for figure in page.figures(f"figures-layer-{number}"):
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,100}\.csv", figure["file"])


def test_histograms_are_kept_in_memory_only_where_they_cannot_be_read_again(tmp_path):
    path = tmp_path / "run.zarr"
    recorded(path, {"a": (3, 4), "b": (2, 200)})
    read_only = ts.open_run(LocalStore(path, read_only=True))
    asked = read_only.report().numbers
    assert all(layer._everything._counted is not None for layer in read_only.values())
    run = ts.open_run(path)
    assert run.report(compare=ts.open_run(path)).numbers[0]["layers"] == asked[0]["layers"]
    assert all(layer._everything._counted is None for layer in run.values())


def test_numbers_of_runs_without_states():
    report = with_empty_layer(MemoryStore()).report(accuracy=0.5)
    (numbers,) = report.numbers
    assert (numbers["network_efficiency"], numbers["aIQ"]) == (None, None)
    assert numbers["layers"][0]["entropy"] is None
    json.dumps(report.numbers, allow_nan=False)


def test_an_older_report_is_replaced_and_nothing_else(run, tmp_path):
    path = tmp_path / "report.html"
    path.touch()
    first = run.report(path)
    assert path.read_text() == first.html
    second = run.report(path, title="Second")
    assert path.read_text() == second.html
    assert "<title>Second</title>" in second.html
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    other = tmp_path / "model.keras"
    other.write_bytes(b"weights")
    with pytest.raises(FileExistsError, match=r"model.keras is not a report"):
        run.report(other)
    assert other.read_bytes() == b"weights"
    with pytest.raises(IsADirectoryError, match="is a folder"):
        run.report(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run.report(tmp_path / "missing" / "report.html")


def test_a_page_that_cannot_be_written_leaves_the_older_one(run, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    before = run.report(path).html
    # A surrogate cannot be encoded: the write fails in its middle.
    broken = type(run.report())("title", "<!doctype html>\ud800", [])
    with pytest.raises(UnicodeEncodeError):
        broken.save(path)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_accuracies_are_checked_before_anything_is_counted(tmp_path):
    run = recorded(tmp_path / "run.zarr", {"layer": (2, 3)})
    for accuracy, message in (
        (94.5, "an accuracy lies within 0 to 1, not 94.5"),
        (float("nan"), "an accuracy lies within 0 to 1, not nan"),
        ([0.9, 0.8], "1 run needs 1 accuracy, or none, not 2"),
    ):
        with pytest.raises(ValueError, match=message):
            run.report(accuracy=accuracy)
    assert not (tmp_path / "run.zarr/layer/histogram").exists()


def test_names_of_runs(tmp_path):
    paths = [tmp_path / "a/run.zarr", tmp_path / "b/run.zarr"]
    runs = [recorded(path, {"layer": (1, 2)}, instances=2) for path in paths]
    assert list(named_runs(runs)) == [str(path) for path in paths]
    assert list(named_runs([runs[0], runs[0]])) == ["run.zarr", "run.zarr (2)"]


def test_in_a_notebook_the_page_is_a_page_of_its_own(run):
    report = run.report()
    ((tag, attributes),) = Parsed(report._repr_html_()).tags
    assert tag == "iframe"
    assert attributes["srcdoc"] == report.html
    assert "allow-same-origin" not in attributes["sandbox"]


@pytest.mark.parametrize("missing", ["bokeh", "jinja2"])
def test_what_is_missing_is_named(tmp_path, missing):
    recorded(tmp_path / "run.zarr", {"layer": (1, 2)}, instances=2)
    program = (
        f"import sys; sys.modules['{missing}'] = None\n"
        "import tensorstate as ts\n"
        f"ts.open_run({str(tmp_path / 'run.zarr')!r}).report()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"ImportError: a report needs {missing}" in ended.stderr
    assert "pip install tensorstate[report]" in ended.stderr
    assert isinstance(ts.open_run(tmp_path / "run.zarr").summary(), pd.DataFrame)
