"""Events as Prometheus metrics, and the page that is scraped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runner.domain.depth import QueueDepth
from runner.domain.schedule import Definitions
from runner.telemetry import Event


class Metrics:
    """A subscriber: `events.subscribe(metrics.tell)`. The callables are asked at each scrape."""

    def __init__(
        self, version: str, depths: Callable[[], Sequence[QueueDepth]], leaked_threads: Callable[[], int] = lambda: 0
    ) -> None: ...

    def know(self, definitions: Definitions) -> None:
        """The names that may be labels; call it wherever a file comes into force."""

    def tell(self, event: Event) -> None: ...

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return b""


class MetricsServer:
    """`GET /metrics` in a thread of its own."""

    url: str

    def close(self) -> None: ...


def start_metrics_server(metrics: Metrics, port: int, host: str = "127.0.0.1") -> MetricsServer:
    """Raises UsageError where the address is taken or not ours. Port 0: any free one."""
    raise NotImplementedError
