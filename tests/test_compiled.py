import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tensorstate import compiled

COUNT = """
import sys
import numpy as np
from tensorstate.counting import count_states
rows = np.random.default_rng(1).integers(0, 256, (200_000, int(sys.argv[1])), dtype=np.uint8)
found = count_states(rows)
assert found.total == 200_000
print(found.distinct, flush=True)
"""


def start(width, cache, **environment):
    variables = {**os.environ, "NUMBA_CACHE_DIR": str(cache), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", COUNT, str(width)],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results(processes):
    ended = [(*process.communicate(timeout=200), process.returncode) for process in processes]
    assert all(code == 0 for _, _, code in ended), ended
    return [out for out, _, _ in ended]


def compiled_files(cache):
    return {path: path.stat().st_mtime_ns for path in Path(cache).rglob("*.nb[ci]")}


def test_processes_that_start_at_once_share_a_cache(tmp_path):
    # Keys of one word and of two at the same moment: the signatures that Numba's own index
    # can mix up when both are new.
    widths = [8, 16, 8, 16]
    found = results([start(width, tmp_path) for width in widths])
    assert found == results([start(width, tmp_path) for width in widths])
    for path in compiled_files(tmp_path):
        assert path.name.endswith((".nbi", ".1.nbc")), "a second signature in one index"


def test_what_is_compiled_is_used_again(tmp_path):
    results([start(8, tmp_path)])
    before = compiled_files(tmp_path)
    assert before
    results([start(8, tmp_path)])
    assert compiled_files(tmp_path) == before


def test_without_a_place_for_the_cache_it_still_counts(tmp_path):
    blocked = tmp_path / "a file, not a directory"
    blocked.write_text("")
    results([start(8, blocked)])


def test_a_kernel_has_one_signature_for_each_kind_of_its_first_argument():
    @compiled.kernel
    def multiply(array, factors):
        for i in range(len(array)):
            array[i] *= factors[0]

    for array in (np.ones(3), np.ones((3, 2)), np.ones(3, np.int32)):
        multiply(array, np.array([2]))
        assert (array == 2).all()
    with pytest.raises(TypeError):
        multiply(np.ones(3), np.array([2.0]))


def double(values):
    return 2 * values[0]


@pytest.mark.parametrize(("mode", "kept"), [(0o700, True), (0o777, False), (0o770, False)])
def test_what_others_may_have_written_is_not_run(tmp_path, monkeypatch, mode, kept):
    """Numba unpickles what it finds in the directory."""
    monkeypatch.setattr(compiled, "cache_directory", lambda: tmp_path)
    folder = tmp_path / "kind"
    folder.mkdir()
    folder.chmod(mode)
    assert compiled._cached(double, "kind")(np.array([21])) == 42
    assert any(folder.rglob("*.nbi")) == kept


def test_a_new_directory_for_compiled_code_is_private(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "cache_directory", lambda: tmp_path / "below")
    before = os.umask(0)
    try:
        compiled._cached(double, "kind")
    finally:
        os.umask(before)
    assert (tmp_path / "below/kind").stat().st_mode & 0o777 == 0o700
