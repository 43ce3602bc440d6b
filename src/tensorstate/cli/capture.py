"""`tensorstate capture`: record the states of a network."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from fractions import Fraction
from itertools import chain
from typing import Any

import click

from tensorstate.capture import build_efficiency_model, remove_state_layers
from tensorstate.cli import INTERRUPTED
from tensorstate.cli.data import Data, open_data, scaled
from tensorstate.cli.models import open_model
from tensorstate.cli.networks import Network
from tensorstate.cli.options import examples, in_options, json_option, quiet_option
from tensorstate.cli.output import print_json, say
from tensorstate.cli.recording import check_passes, record
from tensorstate.cli.span import SHARD, Span, committed, span_of
from tensorstate.counting.progress import Work, show_progress
from tensorstate.storage import DamagedMetadataError, open_run

__all__ = ["capture"]


def _shape(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        return tuple(int(length) for length in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a shape, as 224,224,3") from None


def _factor(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    try:
        return None if value is None else float(Fraction(value))
    except (ValueError, ZeroDivisionError):
        raise click.BadParameter(f"{value!r} is not a number, as 0.5 or 1/255") from None


@click.command(
    short_help="Record the states of a model's layers in a run.",
    epilog=examples(
        "tensorstate capture lenet5.keras digits.npy -o run.zarr --attach-to Conv2D",
        "tensorstate capture lenet5.keras digits.npy -o run.zarr --attach-to Conv2D --resume",
        "tensorstate capture networks:build digits.npz --dataset images -o torch.zarr "
        "--attach-to Conv2d --attach-to ReLU --batch-size 100 --limit 500",
        "tensorstate capture lenet5.keras digits.npy -o shards.zarr --attach-to conv_1 --shard 0/2",
        "tensorstate capture lenet5.keras images -o images.zarr --attach-to Conv2D "
        "--rescale 1/255 --json",
    ),
)
@click.argument("model")
@click.argument("data")
@click.option("-o", "--output", required=True, metavar="RUN", help="Path or URL of the run.")
@click.option(
    "--attach-to",
    metavar="NAME",
    multiple=True,
    required=True,
    help="Class or name of layers to capture, as Conv2D; may be given several times.",
)
@click.option("--exclude", metavar="NAME", multiple=True, help="Layers to leave out, likewise.")
@click.option(
    "--method",
    type=click.Choice(["after", "before", "both"]),
    default="after",
    show_default=True,
    help="What to capture of a layer: its output, its input, or both.",
)
@click.option(
    "--threshold", type=float, default=0.0, show_default=True, help="Above it, a neuron fires."
)
@click.option(
    "--channel-axis", type=int, help="Axis that holds the neurons.  [default: the framework's]"
)
@click.option(
    "--codec",
    type=click.Choice(["lz4", "zstd"]),
    default="lz4",
    show_default=True,
    help="How chunks are compressed.",
)
@click.option(
    "--histogram",
    type=click.Choice(["stored", "live"]),
    default="stored",
    show_default=True,
    help="Whether states are stored, or counted at once and dropped.",
)
@click.option(
    "--variable-positions",
    is_flag=True,
    help="Instances differ in length or size: leave padding out, by the masks of Keras and the "
    "packed sequences of PyTorch.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Instances in a pass.",
)
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only the first N instances of the data."
)
@click.option("--dataset", metavar="NAME", help="Which array of a .npz, Zarr or HDF5 file.")
@click.option(
    "--rescale", metavar="FACTOR", callback=_factor, help="Multiply the data, as by 1/255."
)
@click.option(
    "--input-shape",
    metavar="SHAPE",
    callback=_shape,
    help="Shape of an instance, where the model does not tell it, as 3,224,224.",
)
@click.option("--resume", is_flag=True, help="Go on after the instances that are committed.")
@click.option("--overwrite", is_flag=True, help="Write the run, or its part, anew.")
@click.option("--shard", type=SHARD, help="Only shard I (from 0 on) of N, as part I of the run.")
@click.option("--part", metavar="NAME", help="The data are this part of the run, of several.")
@click.option(
    "--first-instance",
    type=click.IntRange(0),
    metavar="N",
    help="Number that the part's first instance has in the run.",
)
@quiet_option
@json_option
def capture(
    model: str,
    data: str,
    output: str,
    dataset: str | None,
    rescale: float | None,
    input_shape: tuple[int, ...] | None,
    batch_size: int,
    limit: int | None,
    resume: bool,
    overwrite: bool,
    shard: tuple[int, int] | None,
    part: str | None,
    first_instance: int | None,
    as_json: bool,
    **probes: Any,
) -> None:
    """Pass DATA through MODEL in inference mode, and record the states of its layers in a RUN.

    MODEL is a .keras file, the folder of a SavedModel, a file of TorchScript or torch.export, or
    module:function that returns a Keras model or a PyTorch module. Of a SavedModel and of
    TorchScript only the outputs can be captured.

    DATA is a .npy, .npz or HDF5 file, a Zarr array, a folder of images (0 to 255, resized to fit
    the model), or module:function that returns an array or yields batches: what the model takes,
    an array, or a tuple or dict of arrays for several inputs. If the function has a parameter
    `start`, it is asked to begin with that instance. Data are read batch by batch.

    Ctrl-C and SIGTERM commit what was captured, and say how to go on. Several processes write one
    run where each is given its --shard of the same data, or a --part with data of its own.
    """
    if resume and overwrite:
        raise click.UsageError("--resume goes on, and --overwrite begins anew: choose one")
    network = open_model(model)
    _check_probes(network, model, probes)
    shape = input_shape or network.input_shape
    found = open_data(data, dataset, shape)
    _check_shape(found, data, shape)
    span = span_of(found.length, limit, shard, part, first_instance)
    done = committed(output, span.part) if resume else 0
    left = _left(span, done, data, output)
    _check_batch_size(network, model, batch_size, left)
    batches = scaled(found.batches(span.start + done, span.stop, batch_size), rescale)
    first = None if left == 0 else next(batches, None)
    if first is None and done == 0:
        raise ValueError(f"there are no instances to capture in {data}")
    ended = True
    if first is not None:
        check_passes(network, first, data)
        captured = _efficiency_model(network, output, resume, overwrite, span, probes)
        if resume and committed(output, span.part) != done:
            remove_state_layers(captured)
            raise ValueError(f"{output} was written by another process meanwhile: start again")
        batches = chain([first], batches)
        total = None if left is None else done + left
        try:
            with show_progress(Work("capturing", "instances", total), done=done) as advance:
                ended = record(network, captured, batches, advance)
        except BaseException:
            _say_where_to_go_on(output, span)
            raise
    _tell(output, span, ended, as_json)
    if not ended:
        sys.exit(INTERRUPTED)


def _check_probes(network: Network, model: str, probes: Mapping[str, Any]) -> None:
    """Raise ValueError if what is to be captured cannot be, of a model that shows little of it."""
    inside = [name for name in probes["attach_to"] if name not in network.outputs]
    if network.outputs and inside:
        outputs = ", ".join(map(repr, network.outputs))
        raise ValueError(
            f"the inside of {model} cannot be probed, and so not {inside[0]!r}: attach to its "
            f"outputs ({outputs}), or capture the model that it was made from"
        )
    if network.needs_channel_axis and probes["channel_axis"] is None:
        raise ValueError(
            f"{model} does not tell which axis of its activations holds the neurons: give "
            "--channel-axis, 1 for convolutions and -1 for linear layers"
        )


def _check_shape(found: Data, data: str, shape: tuple[int | None, ...] | None) -> None:
    """Raise ValueError if the instances have another shape than the model takes."""
    if shape is None or found.shape is None:
        return
    fits = len(shape) == len(found.shape) and all(
        wanted in (None, length) for wanted, length in zip(shape, found.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(
            f"the instances of {data} have the shape {found.shape}, but the model takes ({wanted})"
        )


def _left(span: Span, done: int, data: str, output: str) -> int | None:
    """Return how many instances are still to be captured; None if only the data tell."""
    if span.stop is None:
        return None
    wanted = span.stop - span.start
    if done > wanted:
        raise ValueError(
            f"run {output} has {done} committed instances, but there are only {wanted} in {data}: "
            "it was captured from other data"
        )
    return wanted - done


def _check_batch_size(network: Network, model: str, batch_size: int, left: int | None) -> None:
    """Raise ValueError if the model takes batches of one size, and the data are no such batches."""
    only = network.batch_size
    if only is not None and (batch_size != only or (left or 0) % only):
        raise ValueError(
            f"{model} takes batches of {only} instances only: give --batch-size {only} and a "
            "multiple of it as --limit, or export the model with a dynamic batch dimension"
        )


def _efficiency_model(
    network: Network,
    output: str,
    resume: bool,
    overwrite: bool,
    span: Span,
    probes: Mapping[str, Any],
) -> Any:
    """Return the model with its probes, and the run open."""
    try:
        return build_efficiency_model(
            network.model,
            storage_path=output,
            mode="resume" if resume else "w" if overwrite else "x",
            part=span.part,
            first_instance=span.first_instance,
            **probes,
        )
    except DamagedMetadataError:
        raise
    except (TypeError, ValueError) as error:
        raise ValueError(in_options(str(error))) from error
    except FileExistsError as error:
        raise FileExistsError(in_options(str(error))) from error


def _tell(output: str, span: Span, ended: bool, as_json: bool) -> None:
    """Print what is committed, and how to go on if that is not all."""
    run, instances = open_run(output), committed(output, span.part)
    if as_json:
        layers = [
            {"layer": layer.name, "neurons": layer.neurons, "positions": layer.positions}
            for layer in run.values()
        ]
        found = {
            "run": output,
            "part": span.part,
            "instances": instances,
            "complete": ended,
            "resume": None if ended else _command_to_go_on(),
            "layers": layers,
        }
        print_json(found)
    else:
        where = output if span.part is None else f"part {span.part} of {output}"
        click.echo(f"{where}: {instances:,} instances of {', '.join(run)}")
    if not ended:
        _say_where_to_go_on(output, span)


def _say_where_to_go_on(output: str, span: Span) -> None:
    with contextlib.suppress(Exception):  # what keeps it from being read is told by itself
        instances = committed(output, span.part)
        say(f"stopped after {instances:,} instances, which are committed; go on with")
        click.echo(f"  {_command_to_go_on()}", err=True)


def _command_to_go_on() -> str:
    arguments = [argument for argument in sys.argv[1:] if argument != "--overwrite"]
    resume = [] if "--resume" in arguments else ["--resume"]
    return shlex.join(["tensorstate", *arguments, *resume])
