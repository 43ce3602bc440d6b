"""The command that runs all benchmarks: what it writes, and what it does when ratios fall."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks._results import Outcome, commit, compare, document, record

ROOT = Path(__file__).parents[1]
PACKING = "--megabytes 1 --repeats 1"
SMALL = {
    "packing": command.Benchmark("benchmarks.packing", 1, PACKING, PACKING),
    "firing": command.Benchmark("benchmarks.firing", 1, "--rows 500 --repeats 1", ""),
}
FAILS = command.Benchmark("benchmarks.packing", 1, "--megabytes none", "")


def test_one_command_writes_tables_and_ratios(tmp_path):
    output = tmp_path / "RESULTS.md"
    assert command.main(["--output", str(output)], SMALL) == 0
    text, kept = output.read_text(), json.loads(output.with_suffix(".json").read_text())
    assert "## packing\n\n`python -m benchmarks.packing --megabytes 1 --repeats 1` took" in text
    assert "| neurons | one read | tensorstate | channels first | np.packbits | ratio |" in text
    assert "| neurons | neurons alone | np.sum | ratio | pairs | np.matmul | ratio |" in text
    for fact in ("date", "commit", "machine", "versions"):
        assert f"- {fact}: {kept[fact]}\n" in text
    assert kept["form"] == "short"
    assert list(kept["ratios"]) == ["packing", "firing"]
    assert len(kept["ratios"]["packing"]) == 6
    assert {"20 neurons", "pairs of 20 neurons"} <= kept["ratios"]["firing"].keys()
    assert all(ratio > 0 for of in kept["ratios"].values() for ratio in of.values())


def test_after_a_failure_the_others_are_run(capfd):
    assert command.main(["bad", "packing"], {"bad": FAILS, **SMALL}) == 1
    out, err = capfd.readouterr()
    assert "**It failed**, with exit code 2." in out
    assert "| neurons | one read |" in out
    assert err.splitlines()[-1] == "failed: bad"


def test_the_guard_says_which_ratio_fell(tmp_path, capfd):
    before = {"form": "short", "commit": "abc", "ratios": {"packing": {"20 neurons": 1e-9}}}
    file = tmp_path / "before.json"
    file.write_text(json.dumps(before))
    assert command.main(["--compare", str(file)], SMALL) == 0
    out = capfd.readouterr().out
    assert out == "None of 1 ratios fell by more than 25% since abc.\n"
    before["ratios"]["packing"]["20 neurons"] = 1e9
    file.write_text(json.dumps(before))
    assert command.main(["--compare", str(file)], SMALL) == 1
    out = capfd.readouterr().out
    assert out.startswith("packing, 20 neurons: ")
    assert "times as fast as its peer, and 1000000000.00 before" in out
    with pytest.raises(SystemExit, match="of the short form"):
        command.main(["--compare", str(file), "--long"], SMALL)


def test_ratios_may_fall_by_the_tolerance_and_grow_as_they_like():
    before = {"counting": {"low": 4.0, "high": 2.0}, "stored": {"low": 1.0}}
    now = {"counting": {"low": 3.0, "high": 9.0, "new": 0.1}, "packing": {"20": 0.1}}
    assert compare(before, now, 0.25) == []
    (fell,) = compare(before, now, 0.24)
    assert fell == "counting, low: 3.00 times as fast as its peer, and 4.00 before"


def test_a_ratio_that_is_not_measured_any_more_does_not_pass():
    before = {"counting": {"low": 4.0, "high": 2.0}}
    (lost,) = compare(before, {"counting": {"low": 4.0}}, 0.25)
    assert lost == "counting, high: not measured, and 2.00 before"
    with pytest.raises(ValueError, match="no benchmark that was run has ratios"):
        compare(before, {"packing": {"20": 1.0}}, 0.25)


def test_unknown_names_and_tolerances_are_refused(capsys):
    for arguments, said in (
        (["cuonting"], "there is no benchmark cuonting: there are packing, firing"),
        (["--tolerance", "1"], "the tolerance is 1: give a part, from 0 to below 1"),
    ):
        with pytest.raises(SystemExit) as left:
            command.main(arguments, SMALL)
        assert left.value.code == 2
        assert said in capsys.readouterr().err


def test_the_commit_says_whether_files_differ_from_it(tmp_path):
    assert commit(tmp_path) == "none: not in a checkout of Git"

    def git(*what):
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *what], check=True, capture_output=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "Begin")
    clean = commit(tmp_path)
    assert " " not in clean
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == f"{clean} with local changes"


def test_what_failed_and_what_has_no_peers_is_in_the_document():
    outcomes = [
        Outcome("kills", "python -m benchmarks.kills", "| kills |\n", 60.0, 0, {}),
        Outcome("stored", "python -m benchmarks.stored", "", 6.0, 1, {}),
    ]
    facts = record(outcomes, "long", "abc")
    assert facts["ratios"] == {}
    text = document(outcomes, facts)
    assert "in its long form, in 1 minutes" in text
    assert "took 1.0 minutes.\n\n| kills |\n\n## stored" in text
    assert text.endswith("**It failed**, with exit code 1.\n")


@pytest.mark.parametrize("name", ["counting", "stored", "out-of-core", "packing"])
def test_the_readme_quotes_the_results(name):
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    section = results.split(f"\n## {name}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 3
    assert "\n".join(rows) in (ROOT / "README.md").read_text()


def test_the_short_form_is_meant_to_take_less_than_half_an_hour():
    assert {"counting", "stored", "out-of-core", "kills", "scaling"} <= command.available().keys()
    assert sum(b.minutes for b in command.available().values()) < 30


@pytest.mark.parametrize("name", ["counting", "stored", "out-of-core", "scaling"])
def test_the_arguments_of_both_forms_are_known(name):
    """`--help` after them parses all that come before, and runs nothing."""
    benchmark = command.BENCHMARKS[name]
    for arguments in (benchmark.short, benchmark.long):
        line = [sys.executable, "-m", benchmark.module, *command.shlex.split(arguments), "--help"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        has_ratios = "--ratios FILE" in done.stdout
        assert has_ratios == benchmark.has_ratios
