"""What runs, layers and histograms show in a notebook."""

import subprocess
import sys
from html.parser import HTMLParser
from typing import get_args

import numpy as np
import pytest
from zarr.storage import MemoryStore

import tensorstate as ts
from tensorstate.report.plotting import HistogramFigure, LayerFigure, RunFigure
from tests.report.test_network_figures import HOSTILE, run_of
from tests.storage.stores import ReadingStore


class Table(HTMLParser):
    """The cells of a table, as a reader sees them."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.cells.append(data)


def fake_labels(layer):
    layer._run_labels = lambda: np.arange(layer.instance_count) % 2
    return layer


def layer_with_everything(instances=40):
    layer = fake_labels(ts.StateRecorder("layer"))
    layer.record(np.random.default_rng(0).normal(size=(instances, 3, 4)))
    return layer


@pytest.mark.parametrize("name", get_args(LayerFigure))
def test_every_figure_of_a_layer_by_name(name):
    plot = layer_with_everything().plot(name)
    assert type(plot).__module__ == "bokeh.plotting._figure"
    assert plot.title.text.text
    assert plot.xaxis[0].axis_label
    assert plot.yaxis[0].axis_label


@pytest.mark.parametrize("name", get_args(RunFigure))
def test_every_figure_of_a_run_by_name(tmp_path, name):
    run = run_of(tmp_path / "run", labels=np.arange(60) % 2)
    plot = run.plot(name, accuracy=0.9)
    assert plot.title.text.text


@pytest.mark.parametrize("name", get_args(HistogramFigure))
def test_every_figure_of_a_histogram_by_name(name):
    layer = layer_with_everything()
    histogram = layer.histogram()
    assert histogram.plot(name).title.text.text == layer.plot(name).title.text.text


def test_figures_that_there_are_not(tmp_path):
    layer = layer_with_everything()
    with pytest.raises(ValueError, match=r"no figure 'pie' of a layer: choose one of rank_freq"):
        layer.plot("pie")
    with pytest.raises(ValueError, match=r"no figure 'pie' of a histogram.* rank_.*, spectrum$"):
        layer.histogram().plot("pie")
    with pytest.raises(ValueError, match=r"'rarefaction' of the layer 'new': it needs two inst"):
        ts.StateRecorder("new").plot("rarefaction")
    run = run_of(tmp_path / "run")
    with pytest.raises(ValueError, match=r"no figure 'pie' of a run: .*, aiq$"):
        run.plot("pie")
    with pytest.raises(ValueError, match=r"of the run: it needs labels"):
        run.plot("label_information")
    with pytest.raises(ValueError, match="needs the accuracy"):
        run.plot("aiq")
    empty = ts.count_states(np.empty((0, 1), np.uint8))
    with pytest.raises(ValueError, match="of the histogram: it needs states"):
        empty.plot()


def test_bokeh_is_missing():
    program = (
        "import sys; sys.modules['bokeh'] = sys.modules['bokeh.models'] = None\n"
        "import tensorstate as ts, numpy as np\n"
        "histogram = ts.count_states(np.zeros((2, 1), np.uint8))\n"
        "print(histogram._repr_html_())\n"
        "histogram.plot()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "distinct states" in done.stdout
    assert "figures need Bokeh: pip install tensorstate[report]" in done.stderr


def test_a_table_of_a_run_counts_nothing():
    store = ReadingStore(MemoryStore())
    run_of(store, ["conv", "empty"])
    run = ts.open_run(store)
    table = Table(run._repr_html_())
    assert "not counted yet" in table.cells
    assert "no states yet" in table.cells
    assert store.chunks() == []
    expected = run.summary().loc["conv"]
    for again in (run, ts.open_run(store)):
        store.chunks()
        table = Table(again._repr_html_())
        assert "not counted yet" not in table.cells
        assert f"{expected['entropy']:.3f} bits" in table.cells
        assert f"{100 * expected['efficiency']:.3g} %" in table.cells
        assert f"{expected['distinct']:,}" in table.cells
        assert store.chunks() == []
    assert table.tags.count("tr") == 3
    assert "caption" in table.tags


def test_a_table_of_a_layer(tmp_path):
    layer = layer_with_everything()
    assert "not counted yet" in Table(layer._repr_html_()).cells
    histogram = layer.histogram()
    cells = Table(layer._repr_html_()).cells
    assert cells[cells.index("distinct states") + 1] == str(histogram.distinct)
    assert cells[cells.index("efficiency") + 1] == f"{100 * layer.efficiency():.3g} %"
    layer.record(np.ones((1, 3, 4)))
    assert "not counted yet" in Table(layer._repr_html_()).cells
    layer.reset_states()
    assert "no states yet" in Table(layer._repr_html_()).cells
    assert "no states yet" in Table(ts.StateRecorder("new")._repr_html_()).cells
    lengths = ts.StateRecorder("lstm", variable_positions=True)
    lengths.record(np.ones((2, 5, 3)), lengths=[5, 1])
    assert "vary" in Table(lengths._repr_html_()).cells


def test_a_table_of_a_live_layer_has_what_its_writer_counted(tmp_path):
    with ts.StateRecorder("live", tmp_path / "run", histogram="live") as recorder:
        recorder.record(np.random.default_rng(0).normal(size=(100, 3)))
    layer = ts.open_run(tmp_path / "run")["live"]
    cells = Table(layer._repr_html_()).cells
    assert cells[cells.index("distinct states") + 1] == "8"


def test_a_table_where_counts_are_damaged(tmp_path):
    with ts.StateRecorder("live", tmp_path / "run", histogram="live") as recorder:
        recorder.record(np.random.default_rng(0).normal(size=(100, 3)))
    (spectrum,) = (tmp_path / "run").glob("live/part-0/counted/*/spectrum/c/0/0")
    spectrum.unlink()
    assert "counts are damaged" in Table(ts.open_run(tmp_path / "run")._repr_html_()).cells


def test_a_table_of_a_histogram(tmp_path):
    histogram = ts.count_states(np.array([[7], [0], [7]], np.uint8))
    cells = Table(histogram._repr_html_()).cells
    assert cells == [
        *("StateHistogram", "states", "3", "distinct states", "2"),
        *("bytes of a state", "1", "kept", "in memory"),
    ]
    store = {}
    histogram.save(store)
    stored = ts.StateHistogram.load(store, memory_limit=1)
    assert "in files" in Table(stored._repr_html_()).cells


def test_whatever_a_name_holds_is_text():
    name = HOSTILE.replace("/", "|").replace("\\", "|")
    run = run_of(MemoryStore(), [name])
    for text in (run._repr_html_(), run[name]._repr_html_()):
        table = Table(text)
        assert "script" not in table.tags
        assert any(name in cell for cell in table.cells)
