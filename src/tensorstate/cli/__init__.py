"""The `tensorstate` command: one module a command, and one a concern that commands share."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from importlib.metadata import version
from types import FrameType
from typing import NoReturn

import click

from tensorstate._version import __version__
from tensorstate.cli.output import say

__all__ = ["DAMAGED", "FAILED", "INTERRUPTED", "main"]

FAILED, DAMAGED, INTERRUPTED = 1, 3, 130

_EXTRAS = {"keras": "tensorflow", "tensorflow": "tensorflow", "torch": "torch", "mlxtend": "demo"}
"""Which extra installs what may be missing."""

_COMMANDS = ("capture", "count", "demo", "info", "plan", "report", "verify")


class _Commands(click.Group):
    """Commands whose modules are imported when they are asked for: completion is to be quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"tensorstate.cli.{name}"), name)
        return command


def main() -> NoReturn:
    """Run the command line and exit with a code that tells how it went.

    0: done, 1: failed, 2: usage, 3: damage found, 130: interrupted, by Ctrl-C or SIGTERM.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _commands(prog_name="tensorstate", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        _end_threads()
        sys.exit(INTERRUPTED)
    except (OSError, ValueError, ImportError) as error:
        say(f"{error}{_what_to_install(error)}")
        sys.exit(DAMAGED if _is_damage(error) else FAILED)
    sys.exit(0)


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 damage found, 130 interrupted.",
)
@click.version_option(
    __version__,
    message="tensorstate %(version)s, "
    + ", ".join(f"{name} {version(name)}" for name in ("numpy", "zarr", "dask", "numba")),
)
def _commands() -> None:
    """Show how much of a neural network's capacity is really used."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # What cleans up after Ctrl-C then cleans up after SIGTERM, too.
    raise KeyboardInterrupt


def _end_threads() -> None:
    """Let the threads of Dask's pool end, for which the process waits at its own end.

    Python tells them by itself, but not one that was just being started when the signal came.
    """
    pool = getattr(sys.modules.get("dask.threaded"), "default_pool", None)
    if pool is not None:
        pool.shutdown(wait=False, cancel_futures=True)


def _what_to_install(error: Exception) -> str:
    """Return the end of a message about a package that is not there; nothing for other errors."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return ""
    package = error.name.partition(".")[0]
    extra = _EXTRAS.get(package)
    return f": install {package}" if extra is None else f": install tensorstate[{extra}]"


def _is_damage(error: Exception) -> bool:
    # Not imported before there is an error: it takes most of a second.
    from tensorstate.storage import DamagedChunkError

    return isinstance(error, DamagedChunkError)
