"""Several processes as one: counters go on where one has ended."""

from __future__ import annotations

from typing import Any

from sse_daemon.tally import EMPTY, Tally


def values(**some: Any) -> dict[str, Any]:
    return {**EMPTY, "sweep_position": 0, "loop_lag_seconds": 0.0, **some}


def test_things_are_added_up_and_of_the_rest_the_worst_counts() -> None:
    total = Tally().total(
        [
            values(streams=2, streams_closed_total={"client": 1}, sweep_position=7, loop_lag_seconds=0.1),
            values(streams=3, streams_closed_total={"client": 2, "kicked": 1}, sweep_position=5, loop_lag_seconds=0.3),
        ],
        2,
        9,
    )
    assert (total["streams"], total["sweep_position"], total["loop_lag_seconds"], total["workers"]) == (5, 5, 0.3, 2)
    assert total["streams_closed_total"] == {"client": 3, "kicked": 1}


def test_a_process_that_is_gone_leaves_its_counters_and_nothing_else() -> None:
    tally = Tally()
    gone = values(streams=2, deliveries_total=10, resyncs_total={"lagged": 1}, sweep_position=3)
    before = tally.total([gone], 1, 9)
    tally.bury(gone)
    after = tally.total([], 0, 9)
    assert (before["deliveries_total"], after["deliveries_total"]) == (10, 10)
    assert (after["resyncs_total"], after["streams"], after["sweep_position"]) == ({"lagged": 1}, 0, 9)
    later = tally.total([values(deliveries_total=1, resyncs_total={"lagged": 1})], 1, 9)
    assert (later["deliveries_total"], later["resyncs_total"]) == (11, {"lagged": 2})


def test_nobody_is_no_mistake() -> None:
    assert Tally().total([{}], 0, 4) == {
        **EMPTY,
        "sweep_position": 4,
        "loop_lag_seconds": 0.0,
        "workers": 0,
        "workers_replaced_total": 0,
    }
