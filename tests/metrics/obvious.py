"""Estimators written as their papers define them, state by state, with forty digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import mpmath
from mpmath import mpf, psi

DIGITS = 40


def in_many_digits(define: Callable[..., Any]) -> Callable[..., float]:
    """Let a definition that gives nats give bits, from many digits."""

    def bits(counts: Sequence[int], *options: Any) -> float:
        with mpmath.workdps(DIGITS):
            return float(define([c for c in counts if c], *options) / mpmath.log(2))

    return bits


def _plugin(counts: Sequence[int]) -> Any:
    total = mpf(sum(counts))
    return -mpmath.fsum(c / total * mpmath.log(c / total) for c in counts if c)


@in_many_digits
def miller_madow(counts):
    return _plugin(counts) + mpf(len(counts) - 1) / (2 * sum(counts))


@in_many_digits
def grassberger(counts):
    def g(n):
        return psi(0, n) + mpf((-1) ** n) / 2 * (psi(0, mpf(n + 1) / 2) - psi(0, mpf(n) / 2))

    total = sum(counts)
    return mpmath.log(total) - mpmath.fsum(n * g(n) for n in counts) / total


@in_many_digits
def jackknife(counts):
    """Leave each row out, one after the other."""
    total = sum(counts)
    if total == 1:
        return mpf(0)
    left_out = [
        _plugin([*counts[:state], count - 1, *counts[state + 1 :]])
        for state, count in enumerate(counts)
        for _row in range(count)
    ]
    return total * _plugin(counts) - (total - 1) * mpmath.fsum(left_out) / total


@in_many_digits
def chao_shen(counts):
    total = mpf(sum(counts))
    coverage = 1 - counts.count(1) / total
    shares = [coverage * c / total for c in counts]
    return -mpmath.fsum(p * mpmath.log(p) / (1 - (1 - p) ** total) for p in shares)


@in_many_digits
def chao_wang_jost(counts):
    total, once, twice = sum(counts), counts.count(1), counts.count(2)
    seen = mpmath.fsum(
        mpf(c) / total * mpmath.fsum(mpf(1) / k for k in range(c, total)) for c in counts
    )
    if once == 0:
        return seen
    if twice:
        a = mpf(2 * twice) / ((total - 1) * once + 2 * twice)
    else:
        a = mpf(2) / ((total - 1) * (once - 1) + 2)
    if a == 1:
        return seen
    begun = mpmath.fsum((1 - a) ** r / r for r in range(1, total))
    return seen + mpf(once) / total * (1 - a) ** (1 - total) * (-mpmath.log(a) - begun)


def nsb(counts: Sequence[int], possible: int) -> tuple[float, float]:
    """Sum over all concentrations, with both moments as Wolpert and Wolf give them."""
    counts = [*counts, *[0] * (possible - len(counts))]
    total = sum(counts)
    norm = first = second = mpf(0)
    with mpmath.workdps(30):
        for step in range(-3 * 50, 3 * 50):
            beta = mpmath.exp(mpf(step) / 3)
            own = [c + beta for c in counts]
            whole = total + possible * beta
            weight = mpmath.gamma(possible * beta) / mpmath.gamma(whole)
            for c in counts:
                weight *= mpmath.rf(beta, c)
            weight *= possible * psi(1, possible * beta + 1) - psi(1, beta + 1)
            weight *= beta  # as the steps are even in its logarithm
            norm += weight
            first += weight * (
                psi(0, whole + 1) - mpmath.fsum(a * psi(0, a + 1) for a in own) / whole
            )
            second += weight * _second_moment(own, whole)
        mean = first / norm
        deviation = mpmath.sqrt(second / norm - mean**2)
        return float(mean / mpmath.log(2)), float(deviation / mpmath.log(2))


def _second_moment(own: Sequence[Any], whole: Any) -> Any:
    """Mean of the squared entropy of a Dirichlet distribution, as a double sum."""
    end, spread = psi(0, whole + 2), psi(1, whole + 2)
    logs = [psi(0, a + 1) - end for a in own]
    value = mpf(0)
    for i, a in enumerate(own):
        for j, b in enumerate(own):
            if i == j:
                squared = (psi(0, a + 2) - end) ** 2 + psi(1, a + 2) - spread
                value += a * (a + 1) * squared
            else:
                value += a * b * (logs[i] * logs[j] - spread)
    return value / (whole * (whole + 1))


def coinciding(rows: Sequence[int], order: int) -> float:
    """Share of the ways to draw `order` different rows that are all of one state."""
    draws = list(permutations(rows, order))
    return math.fsum(len(set(draw)) == 1 for draw in draws) / len(draws)
