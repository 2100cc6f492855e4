"""The numbers of a daemon, named once: `sse-daemon stats` and the Prometheus text show the same values under the same names.

The values themselves are plain integers where things happen; nothing here costs anything until somebody looks. docs/metrics.md
has this table for people, and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

PREFIX = "sse_daemon_"

Values: TypeAlias = Mapping[str, "float | Mapping[str, float]"]
"""A number for each name of METRICS, or for a metric with a label a number for each of the label's values."""


class Description(NamedTuple):
    """One metric. label: the name of its one label, or None."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str | None = None


METRICS = (
    Description("streams", "gauge", "Open streams."),
    Description("streams_blocked", "gauge", "Streams whose socket is full."),
    Description("streams_opened_total", "counter", "Streams opened."),
    Description("streams_closed_total", "counter", "Streams closed, by reason.", "reason"),
    Description("streams_turned_away_total", "counter", "Streams sent away while draining or full."),
    Description("resyncs_total", "counter", "Clients that were told of a hole, by reason.", "reason"),
    Description("deliveries_total", "counter", "Events written to streams."),
    Description("heartbeats_total", "counter", "Heartbeats written to streams."),
    Description("events_accepted_total", "counter", "Events and control items taken into the log."),
    Description("events_repeated_total", "counter", "Events that were in the log already, by (from, n)."),
    Description("events_lost_total", "counter", "Events of PUB producers that were refused, whatever for."),
    Description(
        "events_missing", "gauge", "Numbers that producers skipped, or that never arrived; what was refused has arrived."
    ),
    Description("messages_refused_total", "counter", "Messages refused, by code.", "code"),
    Description("answers_undeliverable_total", "counter", "Answers whose producer had gone."),
    Description("producer_connections", "gauge", "Connections to the ZeroMQ sockets."),
    Description("producer_connections_cut_total", "counter", "Connections of producers that were cut off, by reason.", "reason"),
    Description(
        "producer_handshakes_failed_total", "counter", "Connections that did not become a producer's, by reason.", "reason"
    ),
    Description("producers", "gauge", "Producers seen and remembered."),
    Description("groups", "gauge", "Groups in force."),
    Description("topics", "gauge", "Topics declared."),
    Description("append_queue_bytes", "gauge", "Bytes of messages on their way into the log, 700 for each item included."),
    Description("window_bytes", "gauge", "Memory of the window, by its own account."),
    Description("window_events", "gauge", "Events in the window."),
    Description("window_channels", "gauge", "Channels in the window, or with a stream."),
    Description("pinned_bytes", "gauge", "Bytes that full sockets have not taken."),
    Description("log_position", "gauge", "Position of the latest item of the log."),
    Description("sweep_position", "gauge", "Position up to which live streams were served."),
    Description("loop_lag_seconds", "gauge", "Longest delay of something that was due, in the last 10 to 20 s."),
    Description("shedding", "gauge", "1 while new streams are sent away because everything is late, else 0; workers added up."),
    Description("workers", "gauge", "Worker processes that hold streams; 0 where the daemon is one process."),
    Description("workers_replaced_total", "counter", "Worker processes that ended and were replaced."),
    Description("nonces", "gauge", "Used signatures that are remembered."),
    Description("sessions", "gauge", "Sessions of browsers."),
    Description(
        "hook_questions_total", "counter", "Questions to the application of auth.hook_url, by how they ended.", "outcome"
    ),
    Description("hook_remembered_total", "counter", "Requests for which its last answer was good enough."),
    Description("hook_waiting", "gauge", "1 until that application has answered for the first time; workers added up."),
    Description("clients_unproven", "gauge", "1 if clients are believed who they are, else 0."),
    Description("ready", "gauge", "1 if the daemon is ready, else 0."),
    Description("start_time_seconds", "gauge", "When the daemon started, in Unix seconds."),
)


def exposition(values: Values, accept: str = "") -> tuple[bytes, str]:
    """The values as Prometheus text, or OpenMetrics if `accept` asks for it, and the content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(values))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _Families:
    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        for description in METRICS:
            yield _family(description, self._values[description.name])

    def describe(self) -> Iterable[Metric]:
        return ()


def _family(description: Description, value: float | Mapping[str, float]) -> Metric:
    kind = CounterMetricFamily if description.kind == "counter" else GaugeMetricFamily
    labels = [description.label] if description.label else []
    family: Metric = kind(PREFIX + description.name, description.help, labels=labels)
    samples = value.items() if isinstance(value, Mapping) else [(None, value)]
    for label, number in samples:
        family.add_metric([] if label is None else [label], number)  # type: ignore[attr-defined]
    return family
