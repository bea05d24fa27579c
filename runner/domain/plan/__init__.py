"""The difference between a file and what is in force: made, and told."""

from runner.domain.plan.difference import MISSING, Caution, Change, FieldChange, Fire, Plan, Stored, plan

__all__ = ["MISSING", "Caution", "Change", "FieldChange", "Fire", "Plan", "Stored", "plan"]
