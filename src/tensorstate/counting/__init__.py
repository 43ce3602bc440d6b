"""Counting distinct states: arrays of packed states in, a histogram out."""

from tensorstate.counting.count import count_states
from tensorstate.counting.histogram import StateHistogram

__all__ = ["StateHistogram", "count_states"]
