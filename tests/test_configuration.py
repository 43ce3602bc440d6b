"""Every option is in one place, and is what users set."""

import os
import re
import subprocess
import sys
from pathlib import Path

import dask
import pytest
import yaml

import tensorstate
from tensorstate.configuration import option

SOURCE = Path(tensorstate.__file__).parent
LISTED = yaml.safe_load((SOURCE / "tensorstate.yaml").read_text())["tensorstate"]


def test_what_the_code_asks_for_is_listed_and_the_other_way_round():
    sources = [path for path in SOURCE.rglob("*.py") if path.name != "configuration.py"]
    code = "".join(path.read_text() for path in sources)
    assert set(re.findall(r'\boption\("([^"]+)"\)', code)) == set(LISTED)
    assert set(re.findall(r"tensorstate\.((?:\w+-)+\w+|spill)\b(?=`| in Dask)", code)) <= set(
        LISTED
    )
    assert 'config.get("tensorstate' not in code, "option() knows the defaults"


def test_every_option_is_explained():
    text = (SOURCE / "tensorstate.yaml").read_text()
    for name in LISTED:
        assert re.search(rf"^  # .*\n  {name}:", text, re.MULTILINE), name


def test_defaults_and_what_a_user_sets():
    assert option("memory-limit") is None
    with dask.config.set({"tensorstate.memory-limit": "2 GiB"}):
        assert option("memory-limit") == "2 GiB"
    with pytest.raises(KeyError):
        option("nothing")


def test_a_file_and_a_variable_of_the_user(tmp_path):
    (tmp_path / "mine.yaml").write_text("tensorstate: {spill: /from-the-file}")
    program = (
        "from tensorstate.configuration import option\n"
        "print(option('spill'), option('memory-limit'), option('workers-timeout'))"
    )
    environment = {
        "DASK_CONFIG": str(tmp_path),
        "DASK_TENSORSTATE__MEMORY_LIMIT": "3 GiB",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout.strip() == f"/from-the-file 3 GiB {LISTED['workers-timeout']}"
