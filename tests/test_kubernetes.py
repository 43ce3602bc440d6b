"""The manifests of scripts/kubernetes: what Kubernetes needs is there, and the commands exist."""

import shlex
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "scripts" / "kubernetes").glob("*.yaml"))
VERSIONS = {
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "Service": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def manifests(path):
    found = yaml.safe_load_all(path.read_text())
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in found}


ALL = {key: manifest for path in FILES for key, manifest in manifests(path).items()}
PODS = {
    name: manifest["spec"]["template"]
    for (_, name), manifest in ALL.items()
    if "template" in manifest["spec"]
}
CONTAINERS = {
    name: container for name, pod in PODS.items() for container in pod["spec"]["containers"]
}


def test_there_are_both_steps():
    assert [path.stem for path in FILES] == ["capture", "count"]
    assert list(manifests(FILES[0])) == [("Job", "tensorstate-capture")]
    assert len(ALL) == sum(path.read_text().count("\nkind: ") for path in FILES)


@pytest.mark.parametrize("manifest", ALL.values(), ids=str)
def test_what_every_object_needs(manifest):
    assert manifest["apiVersion"] == VERSIONS[manifest["kind"]]
    assert manifest["metadata"]["labels"] == {"app": "tensorstate"}
    assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}


@pytest.mark.parametrize(("kind", "name"), [key for key in ALL if key[0] in ("Job", "Deployment")])
def test_pods(kind, name):
    spec, pod = ALL[kind, name]["spec"], PODS[name]
    if kind == "Deployment":
        assert spec["selector"]["matchLabels"] == pod["metadata"]["labels"]
    else:
        assert pod["spec"]["restartPolicy"] == "Never"
    volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
    container = CONTAINERS[name]
    assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes
    assert container["image"] == CONTAINERS["tensorstate-capture"]["image"]
    assert container["resources"]["limits"]["memory"]
    assert all(isinstance(variable["value"], str) for variable in container.get("env", []))


def test_who_reads_or_writes_the_run_has_the_secret_by_its_name_only():
    for name in ("tensorstate-capture", "tensorstate-worker", "tensorstate-count"):
        assert CONTAINERS[name]["envFrom"] == [{"secretRef": {"name": "tensorstate-s3"}}]
    named = [v["name"] for container in CONTAINERS.values() for v in container.get("env", [])]
    assert not [name for name in named if "KEY" in name or "SECRET" in name]


def test_a_pod_captures_the_shard_of_its_number():
    spec = ALL["Job", "tensorstate-capture"]["spec"]
    variables = {v["name"]: v["value"] for v in CONTAINERS["tensorstate-capture"]["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == int(variables["SHARDS"])
    assert "JOB_COMPLETION_INDEX" not in variables, "Kubernetes sets it"


def test_services_reach_the_pods_that_they_mean():
    service = ALL["Service", "tensorstate-scheduler"]["spec"]
    scheduler = PODS["tensorstate-scheduler"]
    assert service["selector"] == scheduler["metadata"]["labels"]
    (port,) = scheduler["spec"]["containers"][0]["ports"]
    assert service["ports"] == [{"port": 8786, "targetPort": port["containerPort"]}]
    policy = ALL["NetworkPolicy", "tensorstate"]["spec"]
    for selector in (policy["podSelector"], policy["ingress"][0]["from"][0]["podSelector"]):
        assert all(
            selector["matchLabels"].items() <= p["metadata"]["labels"].items()
            for p in PODS.values()
        )


def command_of(container):
    """Return the words of a container's command, with variables as they would be."""
    words = container["command"] + container.get("args", [])
    if words[:2] != ["bash", "-c"]:
        return words
    line = words[2]
    variables = {v["name"]: v["value"] for v in container["env"]} | {"JOB_COMPLETION_INDEX": "1"}
    for name, value in variables.items():
        line = line.replace(f"${name}", value)
    assert "$" not in line, "a variable that nobody sets"
    first, *words = shlex.split(line)
    assert first == "exec", "signals are for the program"
    return words


@pytest.mark.parametrize("name", CONTAINERS)
def test_commands_exist_and_take_their_options(name):
    words = command_of(CONTAINERS[name])
    if words[0] == "dask":
        commands = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
        command, arguments = commands[words[1]], words[2:]
    else:
        assert words[0] == "tensorstate"
        command = getattr(import_module(f"tensorstate.cli.{words[1]}"), words[1])
        arguments = words[2:]
    # Says which option is wrong, or missing.
    command.make_context(name, arguments)
