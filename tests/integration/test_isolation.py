"""The main job: many producers, many clients, each gets exactly its events, in order, and no byte of anybody else's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.checker import Sent, faults
from tests.integration.daemon import RunningDaemon, environ
from tests.integration.peers import Acked, connect, event, metrics, wait
from tests.wire.whatwg import Message

PUBLISHER = Path(__file__).with_name("publisher.py")
KEYS = [f"key-{i}" for i in range(12)] + ["KEY-1", "key-1 ".strip() + "0", "key", "key-1%20", "participant/key-1", "public"]
"""Among them some that a careless comparison takes for one another, or for a channel's name."""


def publisher(daemon: RunningDaemon, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(PUBLISHER), daemon.pubsub, daemon.acked, name, str(count), *dict.fromkeys(KEYS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ({}))


def sent_by(process: subprocess.Popen[str]) -> list[Sent]:
    assert process.stdout is not None
    with process, process.stdout:
        sent = [Sent.read(line) for line in process.stdout]
    assert process.wait() == 0
    return sent


@pytest.mark.parametrize("backend", ["memory://", "sqlite://{directory}/log.db"])
def test_each_client_gets_exactly_its_events_in_order(backend: str) -> None:
    with ExitStack() as stack:
        daemon = stack.enter_context(RunningDaemon(backend=backend))
        # Two streams of each, so that they can be compared; and one that comes when all is over.
        names = sorted(set(KEYS)) * 2
        clients = [stack.enter_context(connect(daemon, name)) for name in names]
        beginning = clients[0].parser.last_event_id
        processes = [publisher(daemon, f"producer-{i}", 400) for i in range(4)]
        sent = {f"producer-{i}": sent_by(process) for i, process in enumerate(processes)}
        assert sum(map(len, sent.values())) == 1600
        late = [stack.enter_context(connect(daemon, name, last_id=beginning)) for name in sorted(set(KEYS))]
        clients += late
        names += sorted(set(KEYS))
        with Acked(daemon.acked) as acked:
            # PUB events that are still on their way are in the log once all are counted.
            wait(lambda: metrics(daemon)["events_accepted_total"] == 1600, "all to be stored", clients)
            last = acked.store(event("*", "the end"))[0]
        wait(lambda: all("the end" in client.data for client in clients), "the last event", clients)
        received = [(name, [m for m in client.events if m.id != last]) for name, client in zip(names, clients, strict=True)]
        assert faults(sent, received) == []
        assert min(len(events) for _, events in received) > 100


# The checker itself -----------------------------------------------------------------------------------------------------------


def message(n: int, data: str) -> Message:
    return Message("message", data, f"0123456789ab-{n}")


RUN = [
    Sent("a1", ["a"], "0123456789ab-1"),
    Sent("all", "*", None),
    Sent("b1", ["b"], "0123456789ab-3"),
    Sent("ab", ["a", "b"], "0123456789ab-4"),
]
A = [message(1, "a1"), message(2, "all"), message(4, "ab")]
B = [message(2, "all"), message(3, "b1"), message(4, "ab")]


def test_the_checker_is_content_with_what_is_right() -> None:
    assert faults({"p": RUN}, [("a", A), ("b", B), ("a", A)]) == []


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        (A[:2], "lost: ab"),
        (A[1:], "lost: a1"),
        ([A[0], A[1], message(3, "b1"), A[2]], "foreign: b1"),
        ([*A, message(5, "who wrote this?")], "foreign: who wrote this?"),
        ([A[0], A[0], *A[1:]], "twice: a1"),
        ([*A, message(5, "ab")], "twice: ab"),
        ([A[0], A[2], A[1]], "out of the log's order: 2"),
        ([message(1, "ab"), message(2, "all"), message(4, "a1")], "out of its producer's order"),
        ([message(0, "a1"), *A[1:]], "id 0123456789ab-0 where 0123456789ab-1 was answered: a1"),
        ([A[0], message(3, "all"), A[2]], "client 1 saw another order than an earlier one of a"),
    ],
)
def test_the_checker_finds_what_is_wrong(events: Sequence[Message], fault: str) -> None:
    found = faults({"p": RUN}, [("a", A), ("a", events)])
    assert any(fault in line for line in found), found
