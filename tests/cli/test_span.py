import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.cli.span import span_of


@given(
    length=st.integers(0, 1000), limit=st.none() | st.integers(1, 1000), shards=st.integers(1, 20)
)
def test_shards_share_the_data_out(length, limit, shards):
    spans = [span_of(length, limit, (number, shards), None, None) for number in range(shards)]
    instances = [one for span in spans for one in range(span.start, span.stop)]
    assert instances == list(range(min(length, limit or length)))
    sizes = [span.stop - span.start for span in spans]
    assert max(sizes) - min(sizes) <= 1
    assert [span.part for span in spans] == [str(number) for number in range(shards)]
    assert all(span.first_instance == span.start for span in spans)


def test_a_part_and_a_shard_exclude_each_other():
    with pytest.raises(click.UsageError, match="names the part already"):
        span_of(10, None, (0, 2), "a", 0)
