"""What people look at: tables of a run."""

from tensorstate.report.tables import layer_table

__all__ = ["layer_table"]
