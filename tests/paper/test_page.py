"""The page, in a real browser."""

import math

import pytest

from scripts.paper.page import make_page, mean_networks
from tests.paper.made_up import made_up
from tests.report.browser import chromium, opened


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def memorised(experiment):
    return min(1.0, 0.05 * math.log2(math.prod(experiment.widths)))


def test_the_page_draws_all_figures_and_loads_nothing(tmp_path, browser):
    report = make_page(made_up(memorised=memorised))
    path = report.save(tmp_path / "report.html")
    with opened(browser, path) as shown:
        titles = [title for title in shown.page.locator(".figure h3").all_inner_texts() if title]
        assert titles == [
            "LeNet-300-100: efficiency falls with the width in 2 of 2 layers",
            "LeNet-5: efficiency falls with the width in 3 of 3 layers",
            "Accuracy rises with the number of parameters, and aIQ has its highest point elsewhere",
            "0 of 8 effects on network efficiency lie above 0",
            "Accuracy on the test digits, by the share of random labels",
            "Wrong labels memorised, by the share of random labels",
        ]
        assert min(shown.painted()) > 1000
        assert len(shown.painted()) == len(titles)
        verdicts = shown.page.locator(".facts dd").all_inner_texts()
        assert verdicts[4:6] == ["holds", "holds"]
        assert shown.page.locator("table").count() == 5
    with opened(browser, path, width=390, scheme="dark") as narrow:
        width = narrow.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 390


def test_the_numbers_of_the_page_are_those_of_the_claims():
    numbers = make_page(made_up()).numbers
    assert [each["verdict"] for each in numbers][:2] == ["holds", "holds"]
    slopes = [each["mean"] for each in numbers[0]["effects"] if each["estimator"] == "plug-in"]
    assert slopes == pytest.approx([-0.05] * 5)
    one_seed = make_page(made_up(seeds=1)).numbers[0]["effects"][0]
    assert one_seed["low"] is one_seed["high"] is None


def test_networks_are_told_by_their_means():
    shown = mean_networks(made_up()).set_index("network")
    assert shown.loc["LeNet-5 2-2-4", "parameters"] == "256"
    assert shown.loc["LeNet-300-100 4-4", "network efficiency"] == "80.1 %"
    assert {"LeNet-300-100 32-32 BN", "LeNet-300-100 32-32 dropout"} <= set(shown.index)


def test_a_page_without_random_labels_has_no_figure_of_them():
    report = make_page(made_up(random_labels=(0,)))
    assert "figures-claim-4" not in report.html
    assert "Nothing in the table decides it." in report.html
