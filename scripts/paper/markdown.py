"""What was found, as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from benchmarks._measure import markdown
from scripts.paper.claims import findings
from scripts.paper.finding import rows_of, sentences
from scripts.paper.table import networks_of

__all__ = ["results"]


def results(table: pd.DataFrame) -> str:
    """Return the claims with their verdicts, numbers and notes.

    Parameters
    ----------
    table : pandas.DataFrame
        From `scripts.paper.table.load_table`.
    """
    return "\n\n".join(_paragraphs(table)) + "\n"


def _paragraphs(table: pd.DataFrame) -> Iterator[str]:
    about = table.attrs
    yield (
        f"{len(networks_of(table))} networks, {table['seed'].nunique()} seeds; "
        f"{table['train_digits'].iloc[0]:,} digits to train with, {table['test_digits'].iloc[0]:,} "
        f"to test with and to capture. Made on {about.get('machine')}, with "
        f"{about.get('versions')}."
    )
    for number, finding in enumerate(findings(table), 1):
        yield f"### {number}. {finding.claim}: {finding.verdict()}"
        yield f"The paper: {finding.paper} Asked here: {finding.asked}"
        yield "\n".join(f"- {sentence}" for sentence in sentences(finding))
        estimators, rows = rows_of(finding)
        if rows:
            cells = [
                [f"{row.of}: {row.what}"]
                + [f"{each.told}, {each.verdict}" if each else "-" for each in row.effects]
                for row in rows
            ]
            yield markdown(["number, with its 95 % interval over seeds", *estimators], cells)
        yield "\n".join(f"- {note}" for note in finding.notes)
