"""`tensorstate report`: one or several runs as a page."""

from __future__ import annotations

from pathlib import Path

import click

from tensorstate.cli.on_cluster import on_cluster
from tensorstate.cli.options import (
    counting_limits,
    examples,
    json_option,
    limit_options,
    quiet_option,
)
from tensorstate.cli.output import print_json
from tensorstate.storage import open_run

__all__ = ["report"]


@click.command(
    epilog=examples(
        "tensorstate report run.zarr",
        "tensorstate report run.zarr --accuracy 0.945 -o lenet5.html",
        "tensorstate report --quiet --json run.zarr torch.zarr --accuracy 0.945 --accuracy 0.9",
    )
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default="report.html",
    show_default=True,
    help="Where the page goes; only an older report is replaced.",
)
@click.option(
    "--accuracy",
    "accuracies",
    type=click.FloatRange(0, 1),
    multiple=True,
    help="Of the network, 0 to 1, for its aIQ; of several runs, once for each, in their order.",
)
@click.option("--title", help="Of the page.  [default: names the models]")
@limit_options
@quiet_option
@json_option
@on_cluster
def report(
    runs: tuple[str, ...],
    output: Path,
    accuracies: tuple[float, ...],
    title: str | None,
    memory_limit: str | None,
    spill: str | None,
    as_json: bool,
) -> None:
    """Show a RUN, or several side by side, on a page: an HTML file that loads nothing.

    RUN is the path or URL of a run. What is not counted yet is counted, and the counts are kept in
    it. The page opens in any browser, on a telephone too, and can be printed. It needs
    tensorstate[report].
    """
    from tensorstate.report.page import check_accuracies, check_free, make_report, named_runs

    try:
        check_accuracies(accuracies, len(runs))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--accuracy") from None
    check_free(output)  # before anything is counted

    with counting_limits(memory_limit, spill):
        named = named_runs(open_run(run) for run in runs)
        page = make_report(named, accuracies, title=title)
    page.save(output)
    if as_json:
        print_json({"report": str(output), "bytes": output.stat().st_size, "runs": page.numbers})
        return
    click.echo(f"{page.title}: {output}")
