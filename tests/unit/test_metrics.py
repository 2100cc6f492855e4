from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from sse_daemon.metrics import METRICS, PREFIX, Values, exposition
from tests.architecture.source import ROOT

VALUES: Values = {m.name: {"lagged": n, 'a "quoted\\"\nreason': n + 0.5} if m.label else float(n) for n, m in enumerate(METRICS)}
OPEN = "application/openmetrics-text; version=1.0.0"


def test_the_table_in_the_documentation_is_the_table() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (?:`(\w+)`|-) \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(m.name, m.kind, m.label or "", m.help) for m in METRICS]


def test_every_name_that_the_documentation_mentions_exists() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text().partition("What to watch")[2]
    mentioned = set(re.findall(r"`(\w+_(?:total|bytes|position|missing)|ready)`", text))
    assert mentioned <= {m.name for m in METRICS}
    assert len(mentioned) >= 8


def test_names_are_unique_and_follow_the_convention() -> None:
    names = [m.name for m in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")


@pytest.mark.parametrize(("accept", "read"), [("", prometheus), ("text/plain", prometheus), (OPEN, open_metrics)])
def test_a_scraper_reads_every_number(accept: str, read: object) -> None:
    body, content_type = exposition(VALUES, accept)
    assert content_type.startswith("application/openmetrics-text" if accept == OPEN else "text/plain")
    found = {}
    for family in read(body.decode()):  # type: ignore[operator]
        for sample in family.samples:
            found[sample.name, *sample.labels.items()] = sample.value
    wanted = {}
    for metric in METRICS:
        value = VALUES[metric.name]
        if isinstance(value, float):
            wanted[(PREFIX + metric.name,)] = value
        else:
            assert not isinstance(value, int)
            wanted |= {(PREFIX + metric.name, (metric.label, reason)): number for reason, number in value.items()}
    assert found == wanted


def test_a_label_without_values_is_no_sample() -> None:
    values = VALUES | {"resyncs_total": {}}
    assert b"sse_daemon_resyncs_total{" not in exposition(values)[0]


def test_a_forgotten_number_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="streams"):
        exposition({name: value for name, value in VALUES.items() if name != "streams"})
