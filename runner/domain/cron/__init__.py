"""Cron expressions: parsed strictly, fired in a zone, explained in words."""

from runner.domain.cron.expression import Cron, CronError, UnknownZone, closest_zone, count_slots, zone

__all__ = ["Cron", "CronError", "UnknownZone", "closest_zone", "count_slots", "zone"]
