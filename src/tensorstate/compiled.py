"""Compile kernels with Numba, and keep what was compiled on disk where no race can harm it.

Numba's own cache keeps, for each function, an index and numbered data files, one for each
signature and processor. Two processes that add different entries at the same moment can leave
an index that names the other one's code (Numba issues 4807 and 10128). It also looks only at
the source file of the function itself: a helper that changed in another module goes unnoticed.

Here every directory holds one entry a function, so that processes which meet can only write the
same bytes under the same name, each atomically:

- the directory's name is a digest of the processor, the versions of Python, Numba and llvmlite,
  and the source of this package, and
- a kernel that is used with arrays of one and of two dimensions, or of two types, is compiled as
  several functions, each with a directory of its own, and refuses any further signature.

No lock is needed, which matters for home directories on network file systems. The directories
are below ``NUMBA_CACHE_DIR`` where it is set, else below the user's cache directory; they may be
deleted at any time.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba

_LOCK = threading.Lock()

KERNEL_MODULES = (
    "bit_kernels.py",
    "compiled.py",
    "file_kernels.py",
    "firing_kernels.py",
    "intrinsics.py",
)
"""Modules that kernels are made of, besides those of counting."""


@functools.cache
def cache_directory() -> Path:
    """Return the directory for code compiled by this version for this processor.

    Returns
    -------
    pathlib.Path
        Not necessarily an existing directory.
    """
    if numba.config.CACHE_DIR:
        base = Path(numba.config.CACHE_DIR)
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256()
    for fact in (
        platform.python_version(),
        numba.__version__,
        llvmlite.__version__,
        llvmlite.binding.get_host_cpu_name(),
        llvmlite.binding.get_host_cpu_features().flatten(),
    ):
        digest.update(fact.encode() + b"\0")
    package = Path(__file__).parent
    modules = [*(package / name for name in KERNEL_MODULES), *package.glob("counting/*.py")]
    for module in sorted(modules):
        digest.update(module.read_bytes())
    return base / "tensorstate" / digest.hexdigest()[:20]


class Kernel:
    """A function of arrays, compiled on its first use for each kind of its first argument.

    Parameters
    ----------
    function
        What to compile. The number of dimensions and the dtype of its first argument tell the
        variants apart: keys are (rows,) arrays of one word or (rows, 2) arrays of two. Apart from
        that its arguments must always have the same types; arrays that are only read are passed
        as read-only ones for that reason.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._variants: dict[tuple[int, str], Any] = {}

    def __call__(self, *args: Any) -> Any:
        """Call the variant for the first argument, compiling it if this is its first use."""
        variant = self._variants.get((args[0].ndim, args[0].dtype.char))
        if variant is None:
            variant = self._compile(args)
        return variant(*args)

    def _compile(self, args: tuple[Any, ...]) -> Any:
        kind = (args[0].ndim, args[0].dtype.char)
        with _LOCK:
            if kind not in self._variants:
                compiled = _cached(self._function, f"{args[0].ndim}d-{args[0].dtype}")
                compiled.compile(tuple(numba.typeof(arg) for arg in args))
                compiled.disable_compile()
                self._variants[kind] = compiled
            return self._variants[kind]


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorate a function as a `Kernel`."""
    return Kernel(function)


def _cached(function: Callable[..., Any], kind: str) -> Any:
    options = {"nogil": True, "boundscheck": False, "error_model": "numpy"}
    directory = cache_directory() / kind
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
        _check_private(directory)
    except OSError:
        # Compile in every process rather than fail, or share a directory that is not safe.
        return numba.njit(**options)(function)
    previous = numba.config.CACHE_DIR
    # Numba asks its configuration for the directory while it decorates, and only then.
    numba.config.CACHE_DIR = str(directory)
    try:
        return numba.njit(cache=True, **options)(function)
    finally:
        numba.config.CACHE_DIR = previous


def _check_private(directory: Path) -> None:
    """Raise PermissionError if others may put something into a directory, which Numba would run."""
    found = directory.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{directory} can be written by others")
