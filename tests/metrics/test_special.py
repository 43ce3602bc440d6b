"""Gamma functions and their differences against forty digits."""

import mpmath
import pytest

from tensorstate.metrics.special import (
    log_excess,
    log_minus_digamma,
    log_ratio,
    loggamma,
    trigamma_excess,
)

ARGUMENTS = [1e-12, 1e-3, 0.3, 0.5, 1, 1.5, 2, 7.3, 11.9, 12, 12.5, 15, 20, 100, 1e5, 1e9, 1e15]
STEPS = [1, 2, 3, 10, 50, 1000, 10**6, 10**9, 10**12]


@pytest.mark.parametrize("x", ARGUMENTS)
def test_functions_of_one_argument(x):
    with mpmath.workdps(60):
        exact = mpmath.mpf(x)
        logarithm, digamma = mpmath.log(exact), mpmath.psi(0, exact)
        assert log_minus_digamma(x) == pytest.approx(float(logarithm - digamma), rel=1e-14)
        expected = (exact + 1) * mpmath.psi(1, exact + 1) - 1
        assert trigamma_excess(x) == pytest.approx(float(expected), rel=1e-14)
        assert loggamma(x) == pytest.approx(float(mpmath.loggamma(exact)), rel=1e-13, abs=1e-14)


@pytest.mark.parametrize("x", ARGUMENTS)
def test_excess_of_rising_factorials(x):
    found = log_excess(x, STEPS)
    assert found[0] == pytest.approx(0, abs=1e-14 / max(x, 1))
    with mpmath.workdps(60):
        for steps, value in zip(STEPS[1:], found[1:], strict=True):
            rising = mpmath.loggamma(mpmath.mpf(x) + steps) - mpmath.loggamma(x)
            expected = float(rising - steps * mpmath.log(x))
            assert value == pytest.approx(expected, rel=3e-14), steps


def test_excess_of_what_is_too_small_for_a_double():
    assert log_excess(0.0, [1, 2, 5], log_x=-1000.0) == pytest.approx([0, 1000, 4003.178053830348])


@pytest.mark.parametrize(
    ("a", "b"),
    [(1, 1), (10**9, 10**9 - 1), (3, 7), (2**5000, 3), (3**3000 + 1, 3**3000)],
    ids=["equal", "nearly equal", "small", "far apart", "large"],
)
def test_logarithms_of_ratios(a, b):
    with mpmath.workdps(2000):
        expected = float(mpmath.log(mpmath.mpf(a) / b))
    assert log_ratio(a, b) == pytest.approx(expected, rel=1e-14)
    assert log_ratio(b, a) == -log_ratio(a, b)
