"""Clusters that are joined, or started from a command line."""

import gc
import json

import click
import dask
import distributed.utils
import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from distributed import Client, get_client
from distributed.utils import LoopRunner

from tensorstate.cli.on_cluster import on_cluster
from tensorstate.clusters import KINDS, check_workers, connected, parse_options
from tensorstate.counting import count_states
from tests.clusters import dask_scheduler, dask_worker

pytestmark = pytest.mark.timeout(120)

IN_PROCESS = {"n_workers": 1, "threads_per_worker": 1, "processes": False}


@pytest.fixture(autouse=True)
def no_patience():
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A scheduler with one worker: its address, and its file."""
    folder = tmp_path_factory.mktemp("scheduler")
    with dask_scheduler(folder) as address, dask_worker(folder, address):
        yield address, folder / "scheduler.json"


@pytest.mark.parametrize("by", [0, 1], ids=["address", "file"])
def test_a_scheduler_is_joined_and_goes_on(running, by):
    with connected(scheduler=str(running[by])) as client:
        assert get_client() is client
        assert client.scheduler.address == running[0]
        assert count_states(np.array([[5], [5], [0]], np.uint8)).distinct == 2
    with pytest.raises(ValueError, match="No global client"):
        get_client()
    with Client(running[0]) as client:
        assert len(client.nthreads()) == 1


@pytest.mark.parametrize("address", ["80%", "nosuch://bucket/run", "tcp://127.0.0.1:1"])
def test_an_address_where_nobody_is_does_not_block_the_next_client(address, monkeypatch):
    """A client that was left as garbage took the lock of the next one, in a thread of this one."""

    def loop_factory():
        gc.collect()  # as it may happen in any thread, at any time
        return found()

    found = distributed.utils.get_loop_factory
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(OSError, match="no scheduler answers"), connected(address):
            pass
        monkeypatch.setattr(distributed.utils, "get_loop_factory", loop_factory)
        runner = LoopRunner()
        runner.start()
        runner.stop()
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["local", "distributed:LocalCluster", "distributed:SpecCluster"])
def test_a_cluster_is_started_and_ended(kind):
    options = dict(IN_PROCESS)
    if kind == "distributed:LocalCluster":
        options["dashboard_address"] = None
    if kind == "distributed:SpecCluster":
        from distributed import Scheduler, Worker

        options = {
            "scheduler": {"cls": Scheduler, "options": {"dashboard": False, "port": 0}},
            "worker": {"cls": Worker, "options": {"nthreads": 1}},
            "workers": 2,
        }
    with connected(cluster=kind, options=options) as client:
        address = client.scheduler.address
        assert count_states(np.array([[5], [5], [0]], np.uint8)).distinct == 2
    with pytest.raises(OSError, match=f"no scheduler answers at {address}"), connected(address):
        pass


def test_nothing_asked_for():
    with connected() as client:
        assert client is None


def test_what_is_on_a_cluster_can_be_reached_from_this_machine_only():
    with connected(cluster="local", options=IN_PROCESS | {"processes": True}) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        ports = [port for process in processes for port in process.net_connections("inet")]
        listening = {port.laddr for port in ports if port.status == psutil.CONN_LISTEN}
        assert len(listening) > 1
        assert {host for host, _ in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("version", "said"),
    [("2.0.1", "has zarr 2.0.1, but here it is"), ("", "has zarr not installed")],
)
def test_a_worker_with_another_version_is_named(tmp_path, version, said):
    other = tmp_path / f"zarr-{version or 'x'}.dist-info"
    other.mkdir()
    text = f"Metadata-Version: 2.1\nName: zarr\nVersion: {version}\n" if version else ""
    (other / "METADATA").write_text(text)
    with (
        dask_scheduler(tmp_path) as address,
        dask_worker(tmp_path, address, "--name", "odd", before=str(tmp_path)),
        pytest.raises(ValueError, match=rf"^worker odd at tcp://\S+ {said}.*everywhere$"),
        connected(scheduler=address),
    ):
        pass


def test_workers_that_are_like_us_pass(running):
    with Client(running[0]) as client:
        check_workers(client)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "FileNotFoundError"), ("{", "JSONDecodeError"), ("{}", "KeyError")],
    ids=["missing", "half written", "something else"],
)
def test_files_that_are_no_schedulers(tmp_path, content, said):
    file = tmp_path / "scheduler.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(OSError, match=rf"{file} is not the file .*{said}"), connected(str(file)):
        pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://127.0.0.1:1"])
def test_nobody_answers(address):
    with pytest.raises(OSError, match=f"no scheduler answers at {address}"), connected(address):
        pass


def test_no_worker_in_time(tmp_path):
    with (
        dask_scheduler(tmp_path) as address,
        dask.config.set({"tensorstate.workers-timeout": "200 ms"}),
        pytest.raises(TimeoutError, match=rf"{address} has no worker after 0\.2 s: start some"),
        connected(address),
    ):
        pass


@pytest.mark.parametrize(
    ("kind", "options", "error", "said"),
    [
        ("cray", {}, ValueError, "no cluster 'cray': choose one of local, slurm, .* module:Class"),
        ("distributed:Nothing", {}, ValueError, "distributed has no Nothing"),
        ("no_such_module:Class", {}, ImportError, "needs no_such_module, which is missing"),
        ("local", {"n_workers": 1, "cors": 2}, OSError, r"local does not start .*'cors', .*cors"),
        ("slurm", {"queue": "q"}, ValueError, r"cluster slurm .* \['queue'\]: .*cores"),
        ("local", {"workers": "many"}, ValueError, "a number of workers, not 'many'"),
    ],
)
def test_clusters_that_cannot_be(kind, options, error, said):
    with pytest.raises(error, match=said), connected(cluster=kind, options=options):
        pass


def test_jobqueue_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dask_jobqueue", None)
    with (
        pytest.raises(ImportError, match=r"slurm needs .*pip install 'tensorstate\[cluster\]'"),
        connected(cluster="slurm"),
    ):
        pass


def test_every_kind_has_its_class():
    import importlib

    for name in KINDS.values():
        module, path = name.split(":")
        assert hasattr(importlib.import_module(module), path)


def test_options(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("queue: short\njob_extra_directives: ['--exclusive']\n")
    assert parse_options(str(file)) == {
        "queue": "short",
        "job_extra_directives": ["--exclusive"],
    }
    assert parse_options(None) == parse_options("") == {}
    with pytest.raises(ValueError, match=r"is no YAML: .*line 1"):
        parse_options("{cores: 4")
    for text in ("cores", "[4]", "{4: 5}"):
        with pytest.raises(ValueError, match="no options: write name: value"):
            parse_options(text)
    with pytest.raises(FileNotFoundError):
        parse_options(str(tmp_path / "nothing.yml"))


@click.command()
@click.argument("what")
@on_cluster
@click.option("--loud", is_flag=True)
def ask(what, loud):
    """Say who would run it."""
    try:
        threads = sum(get_client().nthreads().values())
    except ValueError:
        threads = 0
    click.echo(json.dumps([what, loud, threads]))


def invoke(*arguments):
    return CliRunner().invoke(ask, ["x", *arguments])


def test_a_command_runs_with_a_client(running):
    assert json.loads(invoke().output) == ["x", False, 0]
    for where in running:
        assert json.loads(invoke("--loud", "--scheduler", str(where)).output) == ["x", True, 1]
    options = "{n_workers: 1, threads_per_worker: 3, processes: false}"
    found = invoke("--cluster", "local", "--cluster-options", options)
    assert json.loads(found.output) == ["x", False, 3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scheduler", "tcp://a:1", "--cluster", "local"], "give one of them"),
        (["--cluster-options", "{}"], "give it as well"),
        (["--cluster", "local", "--cluster-options", "four"], "write name: value"),
    ],
)
def test_wrong_use_of_a_command(arguments, said):
    found = invoke(*arguments)
    assert found.exit_code == 2
    assert said in " ".join(found.output.replace("│", " ").split())


def test_a_package_that_a_command_lacks():
    found = invoke("--cluster", "no_such_module:Class")
    assert found.exit_code == 1
    assert "needs no_such_module" in found.output


def test_a_scheduler_that_does_not_answer_is_not_the_default_of_what_follows():
    for address in ("\udcff", "tcp://127.0.0.1:1"):
        with pytest.raises(OSError, match="no scheduler answers at"), connected(scheduler=address):
            pass
        assert count_states(np.zeros((3, 1), np.uint8)).total == 3
