"""What came of a claim."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from scripts.paper.effects import Effect, Estimator
from scripts.paper.networks import ARCHITECTURES

__all__ = ["ESTIMATORS", "Finding", "titles"]

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


def titles(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield name and title of each architecture in a table."""
    for architecture in table["architecture"].unique():
        yield str(architecture), ARCHITECTURES[str(architecture)].title
