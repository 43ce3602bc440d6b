import numpy as np
import pytest

from tensorstate.bits import compress_states
from tensorstate.metrics import hamming_kernel, naswot_score


@pytest.mark.parametrize("units", [1, 8, 77])
def test_the_kernel_is_the_sum_of_both_products(units):
    fires = np.random.default_rng(units).random((12, units)) < 0.4
    c = fires.astype(np.int64)
    expected = c @ c.T + (1 - c) @ (1 - c).T
    kernel = hamming_kernel(compress_states(fires), units)
    np.testing.assert_array_equal(kernel, expected)


def test_the_score_is_the_logarithm_of_the_determinant():
    fires = np.random.default_rng(0).random((6, 40)) < 0.5
    kernel = hamming_kernel(compress_states(fires), 40)
    eigenvalues = np.linalg.eigvalsh(kernel.astype(float))
    assert naswot_score(kernel) == pytest.approx(np.log(eigenvalues).sum())


def test_two_equal_patterns_have_no_volume():
    fires = np.random.default_rng(0).random((6, 40)) < 0.5
    fires[5] = fires[2]
    assert naswot_score(hamming_kernel(compress_states(fires), 40)) == -np.inf
