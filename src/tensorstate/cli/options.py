"""Arguments and options that commands share, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from tensorstate.storage import LayerStates, StateRun

__all__ = [
    "chosen_layers",
    "counting_limits",
    "examples",
    "in_options",
    "json_option",
    "layer_option",
    "limit_options",
    "quiet_option",
]

_F = TypeVar("_F", bound=Callable[..., Any])


def examples(*commands: str) -> str:
    """Return the end of a command's help: examples, each in a line that can be run as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {command}" for command in commands)


def _complete_layer(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from tensorstate.storage import open_run

    # While an option lacks its value, click does not tell arguments apart.
    run = context.params.get("run") or next(iter(context.args), "")
    try:
        names = list(open_run(run))
    except Exception:  # no run was named yet, or what was named is none
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _memory(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from tensorstate.counting.memory import parse_limit

    try:
        parse_limit(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return value


_ARGUMENT = re.compile(
    r"\b(mode|histogram|channel_axis|threshold|part|first_instance|variable_positions)"
    r"=('[^']*'|True|-?[\d.]*\d)"
)


def in_options(text: str) -> str:
    """Return a message with options in place of the arguments that a program would give.

    Examples
    --------
    >>> in_options("write it anew, with mode='w', or give variable_positions=True")
    'write it anew, with --overwrite, or give --variable-positions'
    >>> in_options("make the capture with channel_axis=-1")
    'make the capture with --channel-axis -1'
    """
    return _ARGUMENT.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    name, value = found[1], found[2].strip("'")
    if name == "mode":
        return {"w": "--overwrite", "resume": "--resume"}.get(value, found[0])
    option = f"--{name.replace('_', '-')}"
    return option if value == "True" else f"{option} {value}"


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")

layer_option = click.option(
    "--layer",
    "layers",
    metavar="NAME",
    multiple=True,
    shell_complete=_complete_layer,
    help="Only this layer; may be given several times.",
)


def quiet_option(command: _F) -> _F:
    """Add `--quiet`, and let everything that takes a while show how far it is without it.

    Parameters
    ----------
    command : callable
        A function with its own options, but not yet a ``click.Command``.
    """

    @click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
    @wraps(command)
    def run(*args: Any, quiet: bool, **kwargs: Any) -> Any:
        import dask

        from tensorstate.configuration import option

        configured = option("progress")
        shown = not quiet and (configured is None or configured)
        with dask.config.set({"tensorstate.progress": shown}):
            return command(*args, **kwargs)

    return run  # type: ignore[return-value]


def limit_options(command: _F) -> _F:
    """Add the options that bound what a count takes: `--memory-limit` and `--spill`."""
    command = click.option(
        "--spill",
        metavar="FOLDER",
        help="Where files go if a count does not fit the limit: a folder or URL that all "
        "processes reach.  [default: tensorstate.spill of Dask's configuration, or the system's "
        "folder for temporary files]",
    )(command)
    return click.option(
        "--memory-limit",
        metavar="SIZE",
        callback=_memory,
        help='What counting may take of memory, as "2 GiB".  [default: tensorstate.memory-limit '
        "of Dask's configuration, or half of what is available]",
    )(command)


@contextmanager
def counting_limits(memory_limit: str | None, spill: str | None) -> Iterator[None]:
    """Make every count meanwhile keep to the limits of the options, where they were given."""
    import dask

    given = {"tensorstate.memory-limit": memory_limit, "tensorstate.spill": spill}
    with dask.config.set({name: value for name, value in given.items() if value is not None}):
        yield


def chosen_layers(run: StateRun, names: Iterable[str]) -> list[LayerStates]:
    """Return the layers of a run that were named, or all, in the order of the run.

    Raises
    ------
    click.BadParameter
        If the run has no layer of that name.
    """
    names = set(names)
    for name in sorted(names):
        if name not in run:
            known = ", ".join(run) or "none"
            raise click.BadParameter(
                f"the run has no layer {name!r}; there are: {known}", param_hint="--layer"
            )
    return [layer for name, layer in run.items() if not names or name in names]
