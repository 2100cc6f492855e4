"""Everybody comes back at the same moment, as nobody is told to: all get what they missed, and who is there is served meanwhile."""

from __future__ import annotations

from contextlib import ExitStack

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, Client, connect, event, metrics, wait

CROWD = 500
MISSED = 20


def test_five_hundred_that_come_back_at_once_after_a_kill_miss_nothing_and_hold_up_nobody() -> None:
    """Each has events of its own and public ones to catch up with, from a log whose window is empty."""
    config = "[streams]\nopen_rate = 0.0\nmax_per_address = 0\n"
    with RunningDaemon(config, backend="sqlite://{directory}/log.db") as daemon, ExitStack() as stack:
        with Acked(daemon.acked) as acked:
            first = acked.store(event("*", "first"))[0]
            for number in range(MISSED):
                acked.store(*[event([f"c{i}"], f"{number}") for i in range(CROWD)])
                acked.store(event("*", f"all {number}"))
        daemon.restart(kill=True)
        healthy = stack.enter_context(connect(daemon, "healthy"))
        acked = stack.enter_context(Acked(daemon.acked))
        crowd = [stack.enter_context(Client(daemon.http_port, f"c{i}", last_id=first)) for i in range(CROWD)]
        for number in range(50):
            acked.store(event(["healthy"], str(number)))
            assert healthy.wait_events(number + 1)[-1] == str(number), "before the crowd has read anything"
        wait(lambda: all(len(client.events) >= 2 * MISSED for client in crowd), "the crowd to have all", crowd)
        expected = [text for number in range(MISSED) for text in (str(number), f"all {number}")]
        assert all(client.data == expected and not client.of("resync") for client in crowd)
        found = metrics(daemon)
        assert found["streams"] == CROWD + 1
        assert not sum(found["streams_closed_total"].values()), found["streams_closed_total"]
