"""What came of a claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from scripts.paper.effects import Effect, Estimator
from scripts.paper.networks import ARCHITECTURES

__all__ = ["ESTIMATORS", "Finding", "Row", "rows_of", "sentences", "titles"]

ESTIMATORS: dict[Estimator, str] = {"plug-in": "", "corrected": "_corrected"}
"""What the columns of each estimator end with."""


@dataclass(frozen=True)
class Finding:
    """A claim, and what came of it.

    Attributes
    ----------
    claim : str
        As the paper has it.
    paper : str
        What the paper says of it.
    asked : str
        What has to be so, that it holds here.
    effects : list of Effect
        The numbers that decide.
    notes : list of str
        What else the numbers say.
    """

    claim: str
    paper: str
    asked: str
    effects: list[Effect]
    notes: list[str]

    def verdict(self, estimator: Estimator = "plug-in") -> str:
        """Return what all effects of an estimator say together.

        Returns
        -------
        str
            "holds" or "does not hold" if all say so; "holds in part" if some hold; "undecided"
            if none is decided, or there is none.
        """
        said = {each.verdict for each in self.effects if each.estimator == estimator}
        if said == {"holds"}:
            return "holds"
        if "holds" in said:
            return "holds in part"
        return "does not hold" if "does not hold" in said else "undecided"


@dataclass(frozen=True)
class Row:
    """One number of a claim, by each estimator; None where an estimator has none."""

    of: str
    what: str
    effects: list[Effect | None]


def sentences(finding: Finding) -> list[str]:
    """Return the verdicts of a claim as sentences, one for each estimator."""
    told = []
    for estimator in dict.fromkeys(effect.estimator for effect in finding.effects):
        verdicts = [each.verdict for each in finding.effects if each.estimator == estimator]
        numbers = ", ".join(
            f"{verdicts.count(verdict)} {words}"
            for verdict, words in (
                ("holds", "as claimed"),
                ("does not hold", "the other way"),
                ("undecided", "undecided"),
            )
            if verdict in verdicts
        )
        told.append(
            f"{estimator[0].upper()}{estimator[1:]}: {finding.verdict(estimator)} "
            f"({len(verdicts)} numbers: {numbers})."
        )
    return told or ["Nothing in the table decides it."]


def rows_of(finding: Finding) -> tuple[list[str], list[Row]]:
    """Return the estimators of a claim's numbers, and the numbers, each by all of these."""
    by_estimator: dict[str, dict[tuple[str, str], Effect]] = {}
    for effect in finding.effects:
        by_estimator.setdefault(effect.estimator, {})[effect.of, effect.what] = effect
    names = dict.fromkeys((effect.of, effect.what) for effect in finding.effects)
    rows = [
        Row(of, what, [found.get((of, what)) for found in by_estimator.values()])
        for of, what in names
    ]
    return list(by_estimator), rows


def titles(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield name and title of each architecture in a table."""
    for architecture in table["architecture"].unique():
        yield str(architecture), ARCHITECTURES[str(architecture)].title
