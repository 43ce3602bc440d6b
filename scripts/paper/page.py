"""The page of a table: what was found of each claim, in the style of the package's report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.paper import figures, training_figures
from scripts.paper.claims import findings
from scripts.paper.effects import CONFIDENCE
from scripts.paper.experiment import CORRECTED
from scripts.paper.finding import Finding, Row, rows_of, sentences, titles
from scripts.paper.networks import ARCHITECTURES, DROPOUT
from scripts.paper.table import networks_of
from tensorstate.report.embedding import Packed, PlacedFigure, pack
from tensorstate.report.figure import Figure
from tensorstate.report.page import Report
from tensorstate.report.rendering import render

__all__ = ["make_page", "mean_networks", "method"]

TITLE = "Neural efficiency and aIQ of LeNet-300-100 and LeNet-5"


@dataclass(frozen=True)
class Claim:
    """What the page shows of a claim."""

    finding: Finding
    sentences: list[str]
    estimators: list[str]
    rows: list[Row]
    figures: Packed | None


def make_page(table: pd.DataFrame) -> Report:
    """Make the page of a table.

    Parameters
    ----------
    table : pandas.DataFrame
        From `scripts.paper.table.load_table`.

    Returns
    -------
    Report
        Its numbers are the effects of all claims.
    """
    found = findings(table)
    claims = [
        Claim(each, sentences(each), *rows_of(each), pack(f"figures-claim-{number}", [drawn]))
        for number, (each, drawn) in enumerate(zip(found, _figures(table, found), strict=True), 1)
    ]
    networks = mean_networks(table)
    about = table.attrs
    page = render(
        (Path(__file__).parent / "page.html.j2").read_text(encoding="utf-8"),
        title=TITLE,
        facts=[
            ("networks", f"{len(networks_of(table)):,}"),
            ("seeds", f"{table['seed'].nunique()}"),
            ("digits for training", f"{table['train_digits'].iloc[0]:,}"),
            ("digits for testing", f"{table['test_digits'].iloc[0]:,}"),
            *((f"claim {number}", each.verdict()) for number, each in enumerate(found, 1)),
        ],
        about=f"Made on {about.get('machine', 'an unknown machine')}, with "
        f"{about.get('versions', 'unknown versions')}.",
        summary=[
            "The four claims of N. Schaub and N. Hotaling (Appl. Sci. 2023, 13(18), 10286), asked "
            "of networks that were trained anew. All numbers and verdicts are computed from the "
            "table of the run."
        ],
        claims=claims,
        columns=list(networks.columns),
        networks=networks.to_numpy().tolist(),
        method=method(table),
        payloads=[claim.figures for claim in claims if claim.figures],
    )
    return Report(TITLE, page, [_numbers(each) for each in found])


def mean_networks(table: pd.DataFrame) -> pd.DataFrame:
    """Return the networks with true labels as text, means over seeds, the smallest first."""
    networks = networks_of(table)
    networks = networks[networks["random_labels"] == 0]
    same = ["architecture", "widths", "batch_norm", "dropout", "parameters"]
    means = networks.groupby(same, as_index=False).mean(numeric_only=True)
    means = means.sort_values(["architecture", "parameters", "batch_norm", "dropout"])

    def percents(column: str) -> pd.Series:
        return means[column].map(lambda share: f"{100 * share:.1f} %")

    return pd.DataFrame(
        {
            "network": [
                f"{ARCHITECTURES[architecture].title} {widths}{' BN' * norm}{' dropout' * dropout}"
                for architecture, widths, norm, dropout in zip(
                    *(means[name] for name in same[:4]), strict=True
                )
            ],
            "parameters": means["parameters"].map("{:,}".format),
            "training accuracy": percents("train_accuracy"),
            "test accuracy": percents("test_accuracy"),
            "network efficiency": percents("network_efficiency"),
            "corrected": percents("network_efficiency_corrected"),
            "aIQ": percents("aIQ"),
            "aIQ corrected": percents("aIQ_corrected"),
        }
    )


def method(table: pd.DataFrame) -> list[str]:
    """Return how a table was measured, in sentences."""
    settings = table.attrs.get("settings", {})
    known = {name: settings.get(name, "unknown") for name in ("epochs", "patience", "batch_size")}
    return [
        f"Networks were trained with Adam (learning rate {settings.get('learning_rate')}) in "
        f"batches of {known['batch_size']}, for at most {known['epochs']} epochs, and stopped when "
        f"the loss on the training digits had not fallen for {known['patience']}. Hidden layers "
        "have exponential linear units; batch normalisation, and dropout of "
        f"{100 * DROPOUT:.0f} %, follow the unit. Weights are not penalised.",
        "States are those of the hidden layers on the test digits, behind the unit and before "
        "normalisation, and a neuron fires above 0. aIQ has the weight 2 for accuracy.",
        "Random labels are drawn from all ten, so that a tenth of them is right by chance.",
        f"Corrected efficiencies are by the estimator {CORRECTED}, cut off at 1. It assumes "
        "nothing of the distribution, and has a value where each state was seen once. It takes "
        "states to be independent, which the positions of an image are not, and is still too low "
        "where nearly every state is new.",
        f"Intervals are {100 * CONFIDENCE:.0f} % intervals of Student's t over seeds: they say how "
        "much other weights, orders and random labels would change, and nothing of other digits or "
        "of the bias of an estimator. A claim about several numbers holds if each of them does; "
        "no allowance is made for their number.",
    ]


def _figures(table: pd.DataFrame, found: list[Finding]) -> list[list[PlacedFigure]]:
    wider, small, training, _ = found
    drawn: list[list[Figure | None]] = [
        [figures.efficiency_by_width(table, name, wider) for name, _ in titles(table)],
        [figures.accuracy_and_size(table, small)],
        [training_figures.effect_sizes(training)],
        [
            training_figures.random_labels(
                table,
                "test_accuracy",
                "accuracy on the test digits",
                "Few networks were tried, and training stopped after so many epochs: with more, "
                "large networks memorise more.",
            ),
            training_figures.random_labels(
                table,
                "memorised",
                "wrong labels memorised",
                "Who gives each of the nine wrong labels alike memorises none of them, and is "
                "still right on about one in ten.",
            ),
        ],
    ]
    return [[PlacedFigure(one, "", "paper") for one in group if one] for group in drawn]


def _numbers(finding: Finding) -> dict[str, Any]:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "claim": finding.claim,
        "verdict": finding.verdict(),
        "effects": [
            {
                "of": effect.of,
                "what": effect.what,
                "estimator": effect.estimator,
                "mean": known(effect.found.mean),
                "low": known(effect.found.low),
                "high": known(effect.found.high),
                "verdict": effect.verdict,
            }
            for effect in finding.effects
        ],
    }
