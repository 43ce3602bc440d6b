"""Counting distinct states: arrays of packed states in, a histogram out."""

from tensorstate.counting.count import count_here, count_states
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.plan import CountPlan, plan_count

__all__ = ["CountPlan", "StateHistogram", "count_here", "count_states", "plan_count"]
