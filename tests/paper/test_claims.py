"""What is said of the claims, on tables where the answer is known, in both directions."""

import math

import pytest

from scripts.paper.claims import findings
from scripts.paper.markdown import results
from tests.paper.made_up import falling, made_up


def finding(number, *arguments, **options):
    return findings(made_up(*arguments, **options))[number - 1]


def effects(found, estimator="plug-in"):
    return [each for each in found.effects if each.estimator == estimator]


def rising(experiment, width):
    return 0.2 + 0.05 * math.log2(width) + 0.001 * experiment.seed


def flat(experiment, width):
    return 0.5


def test_efficiency_that_falls_with_width():
    found = finding(1)
    assert found.verdict() == found.verdict("corrected") == "holds"
    assert [each.found.mean for each in effects(found)] == pytest.approx([-0.05] * 5)
    assert len({each.of for each in effects(found)}) == 5


def test_efficiency_that_rises_with_width():
    assert finding(1, rising).verdict() == "does not hold"


def test_efficiency_that_falls_only_in_one_architecture():
    def efficiency(experiment, width):
        return (falling if experiment.architecture == "lenet_5" else rising)(experiment, width)

    assert finding(1, efficiency).verdict() == "holds in part"


def test_a_slope_that_differs_from_seed_to_seed():
    def efficiency(experiment, width):
        return 0.5 + 0.01 * (experiment.seed - 1) * math.log2(width)

    assert finding(1, efficiency).verdict() == "undecided"


def test_a_fall_that_is_the_samples_does_not_survive_correction():
    found = finding(1, corrected=flat)
    assert found.verdict() == "holds"
    assert found.verdict("corrected") == "undecided"
    assert [each.found.mean for each in effects(found, "corrected")] == pytest.approx([0] * 5)


def test_layers_at_the_ceiling_are_left_out_where_it_is_said():
    def efficiency(experiment, width):
        return falling(experiment, width) if width > 32 else 0.5 - 0.001 * math.log2(width)

    found = finding(1, efficiency, flag=lambda width: "ceiling: 10 bits" if width > 32 else "")
    below = {each.of: each for each in effects(found, "corrected, below the ceiling")}
    assert below["LeNet-5 conv_2"].found.mean == pytest.approx(-0.001)
    assert below["LeNet-300-100 dense_1"].found.mean == pytest.approx(-0.001)
    assert below["LeNet-5 conv_3"].told == "no value"  # 4 neurons alone are below


def test_the_highest_aiq_in_a_small_network():
    found = finding(2)
    assert found.verdict() == "holds"
    ratio, loss = (each.found.mean for each in effects(found) if each.of == "LeNet-5")
    # 8-32-256 is the most accurate, and 2-2-4 the most efficient.
    assert ratio == pytest.approx(2 * math.log10(8 * 32 * 256 / (2 * 2 * 4)))
    assert loss == pytest.approx(0.001 * math.log2(296 / 8))


def test_the_highest_aiq_in_the_largest_network():
    found = finding(2, rising)
    assert found.verdict() == "holds in part"  # nothing is lost
    assert {each.verdict for each in effects(found) if each.unit == "times"} == {"does not hold"}
    assert {each.verdict for each in effects(found) if each.unit == "points"} == {"holds"}


def test_a_small_network_that_loses_much_accuracy():
    def accuracy(experiment):
        return 0.8 if math.prod(experiment.widths) > 64 else 0.745

    found = finding(2, lambda experiment, width: 1 - 0.1 * math.log2(width), accuracy=accuracy)
    losses = [each for each in effects(found) if each.unit == "points"]
    assert {each.verdict for each in losses} == {"does not hold"}


def test_correction_chooses_another_network():
    found = finding(2, corrected=rising)
    assert found.verdict() == "holds"
    assert found.verdict("corrected") == "holds in part"


@pytest.mark.parametrize(
    ("norm", "dropout", "verdict"),
    [
        (0.1, 0.1, "holds"),
        (-0.1, -0.1, "does not hold"),
        (0.1, -0.1, "holds in part"),
        (0.0, 0.0, "undecided"),
        (0.0, -0.1, "does not hold"),
    ],
)
def test_batch_normalisation_and_dropout(norm, dropout, verdict):
    def efficiency(experiment, width):
        return 0.5 + norm * experiment.batch_norm + dropout * experiment.dropout

    found = finding(3, efficiency)
    assert found.verdict() == found.verdict("corrected") == verdict
    by_norm = [each.found.mean for each in effects(found) if "normalisation" in each.what]
    by_dropout = [each.found.mean for each in effects(found) if "dropout" in each.what]
    assert len(by_norm) == len(by_dropout) == 2
    assert max(by_norm) == pytest.approx(norm, abs=0.03)
    assert max(by_dropout) == pytest.approx(dropout, abs=0.03)


def with_labels(sign):
    """Larger networks memorise more and are wrong more often, or the other way."""

    def size(experiment):
        return sign * 0.02 * math.log2(math.prod(experiment.widths))

    def accuracy(experiment):
        if experiment.random_labels:
            return 0.5 - size(experiment)
        return 0.9 + 0.001 * math.log2(sum(experiment.widths))

    return {"accuracy": accuracy, "memorised": lambda experiment: 0.5 + size(experiment)}


def test_networks_with_a_high_aiq_that_do_not_memorise():
    found = finding(4, **with_labels(+1))
    assert found.verdict() == found.verdict("corrected") == "holds"
    ranks = [each.found.mean for each in effects(found) if each.unit == "number"]
    assert ranks == pytest.approx([-1, -1])
    gap = next(each.found.mean for each in effects(found) if each.of == "LeNet-5")
    assert gap == pytest.approx(0.02 * math.log2(8 * 32 * 256 / 16))


def test_networks_with_a_high_aiq_that_memorise():
    assert finding(4, **with_labels(-1)).verdict() == "does not hold"


def test_without_random_labels_nothing_is_said_of_memorising():
    found = finding(4, random_labels=(0,))
    assert found.verdict() == "undecided"
    assert not found.effects
    assert "no network with random labels" in found.notes[0]


def test_one_seed_decides_no_claim():
    for found in findings(made_up(seeds=1, **with_labels(+1))):
        assert found.verdict() == "undecided"
        assert not any("inf" in note for note in found.notes)


def test_the_markdown_says_what_was_found():
    for options, verdict in (({}, "holds"), ({"efficiency": rising}, "does not hold")):
        text = results(made_up(**options))
        assert f"### 1. Efficiency falls as layers get wider: {verdict}\n" in text
    assert (
        "LeNet-300-100 dense_1: points of efficiency for each doubling of the width | +5.00" in text
    )
