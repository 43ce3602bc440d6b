"""Estimators against their definitions, published values and other packages."""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate as ts
from tensorstate.metrics import entropy, entropy_of_spectrum, nsb_entropy, spectrum
from tensorstate.metrics.entropies import ESTIMATORS
from tests.metrics import obvious, peers
from tests.metrics.peers import GIRDLED, LOGGED
from tests.strategies import reproducible

OF_SHANNON = ["miller_madow", "grassberger", "chao_shen", "chao_wang_jost", "jackknife"]
POSSIBLE = 2**100

samples = st.lists(st.integers(0, 60), min_size=1, max_size=25).filter(any)
wide_samples = st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(any)


@pytest.mark.parametrize("estimator", OF_SHANNON)
@settings(reproducible, max_examples=40)
@given(counts=samples)
def test_estimates_are_what_their_papers_define(estimator, counts):
    if estimator == "chao_shen" and max(counts) == 1:
        counts = [*counts, 2]
    expected = getattr(obvious, estimator)(counts)
    assert entropy(counts, estimator=estimator) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("estimator", ["miller_madow", "grassberger", "chao_shen"])
@settings(reproducible, max_examples=40)
@given(counts=wide_samples)
def test_they_are_for_billions_of_rows_as_well(estimator, counts):
    if estimator == "chao_shen" and max(counts) == 1:
        counts = [*counts, 2]
    expected = getattr(obvious, estimator)(counts)
    assert entropy(counts, estimator=estimator) == pytest.approx(expected, rel=1e-12, abs=1e-14)


def of_singletons(rows):
    """Estimates for as many singletons as there are rows, in closed form."""
    with mpmath.workdps(60):
        n = mpmath.mpf(rows)
        log, euler = mpmath.log, mpmath.euler
        a = 2 / ((n - 1) ** 2 + 2)
        # The tail of the series of -log(a), from the term n on, as an integral.
        ratio = 1 / (1 - a)

        def in_logarithms(y):
            s = mpmath.exp(y)
            return s * mpmath.exp(-n * s) / (ratio - mpmath.exp(-s))

        tail = mpmath.quad(in_logarithms, range(-120, 8, 4))
        nats = {
            "plugin": log(n),
            "miller_madow": log(n) + (n - 1) / (2 * n),
            "grassberger": log(n) + euler + log(2),
            "jackknife": n * log(n) - (n - 1) * log(n - 1),
            "chao_wang_jost": mpmath.psi(0, n) + euler + tail,
        }
        return {name: float(value / log(2)) for name, value in nats.items()}


@pytest.mark.parametrize("rows", [2, 7, 1000, 10**9, 10**12])
def test_singletons_by_the_billion(rows):
    for estimator, expected in of_singletons(rows).items():
        found = entropy_of_spectrum(np.array([1]), np.array([rows]), estimator=estimator)
        assert found == pytest.approx(expected, rel=1e-12), estimator


@pytest.mark.parametrize("estimator", ["chao_wang_jost", "jackknife", "grassberger"])
def test_nearly_constant_layers_keep_their_digits(estimator):
    """A billion rows of one state and three others: bits of 1e-8, to twelve digits."""
    n = 10**9
    with mpmath.workdps(40):
        log, psi = mpmath.log, mpmath.psi

        def g(x):
            return x * log(x) - (x - 1) * log(mpmath.mpf(x - 1))

        of = {
            "jackknife": lambda c: g(n + 3) - g(c),
            "chao_wang_jost": lambda c: psi(0, n + 3) - psi(0, c),
            "grassberger": lambda c: log(n + 3) - log(2) - psi(0, c // 2 + mpmath.mpf(1) / 2),
        }[estimator]
        expected = float((3 * of(3) + n * of(n)) / (n + 3) / log(2))
    assert entropy([n, 3], estimator=estimator) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "shannon", "simpson"), [(GIRDLED, 13.826, 8.175), (LOGGED, 16.337, 6.920)]
)
def test_asymptotic_diversities_that_inext_publishes(counts, shannon, simpson):
    assert 2 ** entropy(counts, estimator="chao_wang_jost") == pytest.approx(shannon, abs=5e-4)
    assert 2 ** entropy(counts, 2, estimator="unbiased") == pytest.approx(simpson, abs=5e-4)


def test_other_packages_agree():
    for counts, found in zip(peers.samples(), peers.answers(), strict=True):
        assert entropy(counts) == pytest.approx(found["discrete"], rel=1e-12)
        for estimator in ("miller_madow", "chao_shen", "chao_wang_jost"):
            ours = entropy(counts, estimator=estimator)
            assert ours == pytest.approx(found[estimator], rel=1e-11), estimator
        assert entropy(counts, 2) == pytest.approx(found["renyi_2"], rel=1e-12)
        assert entropy(counts, 0.5) == pytest.approx(found["renyi_half"], rel=1e-12)


@settings(reproducible, max_examples=30)
@given(rows=st.lists(st.integers(0, 3), min_size=3, max_size=7), order=st.sampled_from([2, 3]))
def test_unbiased_is_the_share_of_coinciding_rows(rows, order):
    share = obvious.coinciding(rows, order)
    counts = np.unique(rows, return_counts=True)[1]
    if share == 0:
        with pytest.warns(RuntimeWarning, match=f"no state was seen {order} times"):
            assert math.isnan(entropy(counts, order, "unbiased"))
    else:
        expected = math.log2(share) / (1 - order)
        assert entropy(counts, order, "unbiased") == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore:no state was seen")
@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_power_sum_is_unbiased(order):
    """Its mean over all samples of five rows, with their probabilities, is that of the source."""
    source = (Fraction(1, 2), Fraction(1, 3), Fraction(1, 6))
    mean = 0.0
    for rows in itertools.product(range(3), repeat=5):
        counts = [rows.count(state) for state in range(3)]
        bits = entropy(counts, order, "unbiased")
        power_sum = 0 if math.isnan(bits) else 2 ** ((1 - order) * bits)
        mean += power_sum * float(math.prod(source[state] for state in rows))
    assert mean == pytest.approx(float(sum(p**order for p in source)), rel=1e-12)


def test_unbiased_of_high_orders_and_many_rows():
    """Falling factorials of thousands of digits do not overflow."""
    assert entropy([10**9] * 4, 300, "unbiased") == pytest.approx(2, abs=1e-6)
    expected = -math.log2(2 / (10**9 * (10**9 - 1)))
    found = entropy_of_spectrum(np.array([1, 2]), np.array([10**9 - 2, 1]), 2, "unbiased")
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "possible"),
    [([3, 2, 1], 4), ([1, 1, 1], 6), ([6], 3), ([5, 5, 5], 3), ([9, 1], 2)],
)
def test_nsb_is_the_integral_over_all_concentrations(counts, possible):
    found = nsb_entropy(counts, possible)
    assert found == pytest.approx(obvious.nsb(counts, possible), rel=1e-8)


def test_nsb_values_that_others_publish():
    # C. Mendl's and S. Hong's programs: christian.mendl.net/pages/software.html
    mean, deviation = nsb_entropy([4, 2, 3, 0, 2, 4, 0, 0, 2], 9)
    assert mean * math.log(2) == pytest.approx(1.940646728502697166844598206814653716492, rel=1e-12)
    assert deviation * math.log(2) == pytest.approx(0.1560242251518078487118059349690693, rel=1e-12)
    # The example in the README of ndd, github.com/simomarsili/ndd
    counts = [12, 4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2]
    ours = entropy(counts, estimator="nsb", states=100)
    assert ours * math.log(2) == pytest.approx(2.840012048914245, rel=1e-10)


@pytest.mark.parametrize("neurons", [1, 8, 64, 512, 4096])
def test_nsb_expects_half_of_the_neurons_where_rows_say_nothing(neurons):
    """One row tells nothing of an entropy that was uniform from 0 to the number of neurons."""
    mean, deviation = nsb_entropy([1], 2**neurons)
    assert mean == pytest.approx(neurons / 2, rel=1e-7)
    # A uniform one, and within it that of the Dirichlet distribution, which fades as K grows.
    assert deviation == pytest.approx(neurons / math.sqrt(12), rel=0.5 / neurons**0.5)


@pytest.mark.parametrize("neurons", [64, 128])
def test_nsb_of_a_billion_singletons(neurons):
    """A sum over all concentrations, with digits enough for gamma functions of 1e56."""
    rows = 10**9
    with mpmath.workdps(110):
        possible = mpmath.mpf(2) ** neurons
        norm = mean = mpmath.mpf(0)
        # Below exp(30) the rows, all different, are as good as impossible.
        for step in range(60, 2 * int(mpmath.log(possible)) + 80):
            k_beta = mpmath.exp(mpmath.mpf(step) / 2)
            beta, whole = k_beta / possible, k_beta + rows
            log_likelihood = rows * mpmath.log(k_beta)
            log_likelihood += mpmath.loggamma(k_beta) - mpmath.loggamma(whole)
            prior = k_beta * mpmath.psi(1, k_beta + 1) - beta * mpmath.psi(1, beta + 1)
            weight = mpmath.exp(log_likelihood) * prior
            seen, unseen = rows * (1 + beta) / whole, (possible - rows) * beta / whole
            own = seen * mpmath.psi(0, beta + 2) + unseen * mpmath.psi(0, beta + 1)
            mean += weight * (mpmath.psi(0, whole + 1) - own)
            norm += weight
        expected = float(mean / norm / mpmath.log(2))
    found = entropy_of_spectrum(np.array([1]), np.array([rows]), 1, "nsb", 2**neurons)
    assert found == pytest.approx(expected, rel=1e-7)


def test_nsb_hardly_depends_on_how_many_states_were_not_seen():
    """With enough coincidences, rows outweigh the prior."""
    counts = [*range(1, 60), *[1] * 100]
    few, many = (nsb_entropy(counts, 2**neurons) for neurons in (64, 5000))
    assert few.mean == pytest.approx(many.mean, rel=1e-9)
    assert 0 < few.deviation < 0.1


@settings(reproducible, max_examples=40)
@given(counts=samples, neurons=st.integers(5, 600))
def test_nsb_lies_between_nothing_and_the_number_of_neurons(counts, neurons):
    mean, deviation = nsb_entropy(counts, 2**neurons)
    assert 0 <= mean <= neurons
    assert 0 <= deviation <= neurons / 2


@settings(reproducible)
@given(counts=samples)
def test_corrections_only_add(counts):
    plugin = entropy(counts)
    assert 0 <= plugin <= math.log2(sum(c > 0 for c in counts)) + 1e-12
    for estimator in ("miller_madow", "chao_wang_jost", "jackknife"):
        assert entropy(counts, estimator=estimator) >= plugin - 1e-12


def all_estimates(times_seen, number_of_states):
    """Return the estimates of all estimators."""
    return {
        name: entropy_of_spectrum(
            times_seen, number_of_states, 2 if name == "unbiased" else 1, name, POSSIBLE
        )
        for name in ESTIMATORS
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(reproducible, max_examples=25)
@given(counts=samples, seed=st.integers(0, 2**32 - 1))
def test_neither_order_nor_absent_states_matter(counts, seed):
    other = np.random.default_rng(seed).permutation([*counts, 0, 0])
    np.testing.assert_equal(all_estimates(*spectrum(counts)), all_estimates(*spectrum(other)))


def test_merged_histograms_say_what_counting_both_says():
    rng = np.random.default_rng(1)
    rows = (rng.random((500, 2)) ** 3 * 12).astype(np.uint8)
    merged = ts.count_states(rows[:200]).merge(ts.count_states(rows[200:]))
    both = ts.count_states(rows)
    assert all_estimates(*merged.spectrum()) == all_estimates(*both.spectrum())
    assert merged.entropy(estimator="nsb", states=POSSIBLE) == pytest.approx(
        both.entropy(estimator="nsb", states=POSSIBLE), rel=1e-15
    )


def test_large_samples_bring_all_estimators_together():
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(50))
    truth = -float(p @ np.log2(p))
    found = all_estimates(*spectrum(rng.multinomial(10**8, p)))
    del found["unbiased"]
    assert len(found) == 7
    for name, value in found.items():
        assert value == pytest.approx(truth, abs=5e-4), name


def test_every_row_a_new_state_leaves_chao_shen_without_a_value():
    with pytest.warns(RuntimeWarning, match="each of the 3 rows is a state of its own") as warned:
        assert math.isnan(entropy([1, 1, 1], estimator="chao_shen"))
    assert warned[0].filename == __file__


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name != "unbiased"])
def test_one_state_has_no_entropy_to_speak_of(estimator):
    assert abs(entropy([10**6], estimator=estimator, states=2**20)) < 1e-4


@pytest.mark.parametrize(
    ("alpha", "estimator", "states", "error", "says"),
    [
        (2, "grassberger", None, ValueError, "'grassberger' has order 1 and not order 2"),
        (0, "nsb", 8, ValueError, "'nsb' has order 1 and not order 0"),
        (1, "unbiased", None, ValueError, "the whole orders from 2 to 1000 and not order 1"),
        (1001, "unbiased", None, ValueError, "the whole orders from 2 to 1000 and not order 1001"),
        (2.5, "unbiased", None, ValueError, "the whole orders from 2 to 1000 and not order 2.5"),
        (
            math.inf,
            "unbiased",
            None,
            ValueError,
            "from 2 to 1000 and not order inf",
        ),
        (1, "nsb", None, ValueError, r"depends on the number of possible states: pass states=2\*"),
        (1, "nsb", 2, ValueError, "3 distinct states were seen, so there cannot be only 2"),
        (1, "plugin", 2, ValueError, "3 distinct states were seen, so there cannot be only 2"),
        (1, "nsb", 8.0, TypeError, "possible states is an integer, not 8.0"),
    ],
)
def test_wrong_use(alpha, estimator, states, error, says):
    with pytest.raises(error, match=says):
        entropy([1, 2, 3], alpha, estimator, states)


def test_wrong_use_of_nsb_entropy():
    with pytest.raises(ValueError, match="cannot be only 1"):
        nsb_entropy([1, 1], 1)
    with pytest.raises(ValueError, match="no state was counted"):
        nsb_entropy([0], 4)
    assert nsb_entropy([5], 1) == (0.0, 0.0)
