"""Colours that can be seen on both grounds of a page."""

import pytest

from tensorstate.report.colours import MARKERS, PALETTE, QUIET, css_variables

GROUNDS = {"light": "#ffffff", "dark": "#14181d"}


def contrast(one, other):
    """Contrast ratio of the Web Content Accessibility Guidelines 2.2."""

    def luminance(colour):
        shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [*PALETTE, QUIET])
def test_what_is_drawn_stands_out_on_both_grounds(colour):
    for ground in GROUNDS.values():
        assert contrast(colour, ground) > 3


@pytest.mark.parametrize("scheme", GROUNDS)
def test_words_can_be_read(scheme):
    values = dict(rule.split(":") for rule in css_variables(scheme).split(";") if rule)
    for name in ("axis-label-text-color", "major-label-text-color", "text-color"):
        assert contrast(values[f"--bk-{name}"], GROUNDS[scheme]) > 7
    assert contrast(values["--bk-axis-line-color"], GROUNDS[scheme]) > 3


def test_series_differ_in_more_than_their_colour():
    assert len(set(PALETTE)) == len(set(MARKERS)) == len(PALETTE)
