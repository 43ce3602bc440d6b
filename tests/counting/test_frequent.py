"""The most frequent states, in memory and in files, against all of them sorted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import StateHistogram, count_states, entries
from tests.strategies import as_dict, count_by_hand, packed_states, reproducible


@reproducible
@given(packed_states(), st.integers(1, 20), st.sampled_from([1, 3, 1 << 18]), st.booleans())
def test_they_are_the_first_of_all_when_sorted(rows, number, at_once, stored):
    histogram = count_states(rows)
    if stored:
        store = {}
        histogram.save(store)
        histogram = StateHistogram.load(store, memory_limit=1)
        assert histogram.is_stored
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entries, "CHUNK_ENTRIES", at_once)
        top = histogram.most_frequent(number)
    by_hand = sorted(count_by_hand(rows).items(), key=lambda entry: (-entry[1][0], entry[1][1]))
    assert [*as_dict(top, rows).items()] == by_hand[:number]
    assert not top.is_stored


def test_of_nothing_and_no_number():
    nothing = count_states(np.empty((0, 3), np.uint8))
    assert nothing.most_frequent().distinct == 0
    with pytest.raises(ValueError, match="at least one, not 0"):
        nothing.most_frequent(0)
