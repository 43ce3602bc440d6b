"""What people look at: tables of a run."""

from tensorstate.report.tables import damage_table, layer_table, plan_table, records

__all__ = ["damage_table", "layer_table", "plan_table", "records"]
