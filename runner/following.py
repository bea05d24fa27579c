"""A running process goes by the last good file: its job types, its schedules, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.settings import TOO_SOON, followed
from runner.telemetry import SettingsChanged, SettingsKept

if TYPE_CHECKING:
    from runner.app import App
    from runner.domain.schedule import Definitions, RunnerOptions
    from runner.engine.heartbeat import Heart
    from runner.engine.janitor import Janitor
    from runner.engine.loop import Clock
    from runner.engine.service import Service


@dataclass(slots=True)
class Following:
    """Told of each file that is good. `options` are those of the last one."""

    app: App
    options: RunnerOptions
    service: Service
    heart: Heart
    janitor: Janitor | None
    clocks: Mapping[str, Clock]

    def take_over(self, found: Definitions) -> None:
        """Its settings first: what its job types bring is claimed by them."""
        if found.runner != self.options:
            self._take_settings(found.runner)
        if self.service.worker is not None:
            self.service.worker.know(found)
        for name in ("worker", "scheduler"):
            self.clocks[name].wake()

    def _take_settings(self, options: RunnerOptions) -> None:
        """What a flag or a variable gave stays; so does what would not go together with it."""
        taken = followed(self.app.settings, self.options, options)
        self.options, self.app.settings = options, taken.settings
        if taken.changed:
            self._go_by_them()
            self.app.events.emit(SettingsChanged(taken.changed))
        if taken.overruled:
            self.app.events.emit(SettingsKept(taken.overruled, "a flag or a variable wins over the file"))
        if taken.refused:
            self.app.events.emit(SettingsKept(taken.refused, TOO_SOON, is_refused=True))

    def _go_by_them(self) -> None:
        now = self.app.settings
        self.service.grace = now.shutdown_grace
        if self.service.worker is not None:
            self.service.worker.concurrency = now.concurrency
        if self.janitor is not None:
            self.janitor.go_by(now.heartbeat, now.retention)
        self.heart.want(now.heartbeat.total_seconds(), now.stalled_after.total_seconds())
