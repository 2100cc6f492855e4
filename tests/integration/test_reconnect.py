"""Where a stream begins and goes on: with and without a cursor, behind snapshots, after a hole; nothing lost, nothing twice."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any, Self

import pytest

from tests.integration.client import Client, Header, Publisher, Response, admin, envelope
from tests.integration.daemon import RunningDaemon
from tests.wire.whatwg import Message

LITTLE = """
[backend]
retention_bytes = 60_000

[streams]
window_bytes = 20_000
send_buffer = 4096
"""
STALLING = """
[streams]
stall_timeout = 0.5
send_buffer = 4096
"""

Get = Callable[..., Response]
Until = Callable[..., Any]


@pytest.fixture(scope="module")
def little() -> Iterator[RunningDaemon]:
    """A daemon that keeps little, for clients of which the kernel keeps little."""
    with RunningDaemon(LITTLE) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def little_publisher(little: RunningDaemon) -> Iterator[Publisher]:
    with Publisher(little.acked) as publisher:
        yield publisher


@pytest.fixture
def get(daemon: RunningDaemon) -> Iterator[Get]:
    """get(key, cursor=None, of=daemon, target="/events", buffer=None) -> the open stream of a participant."""
    with ExitStack() as opened:

        def run(
            key: str,
            cursor: str | None = None,
            *headers: Header,
            of: RunningDaemon = daemon,
            target: str = "/events",
            buffer: int | None = None,
        ) -> Response:
            sent = [("X-Public-Key", key), *headers] + ([] if cursor is None else [("Last-Event-ID", cursor)])
            response = opened.enter_context(Client(of.http_port, buffer)).get(target, *sent)
            assert response.status == 200
            return response

        yield run


def data(messages: list[Message]) -> list[str]:
    return [m.data for m in messages]


def ids(blocks: bytes) -> list[str | None]:
    """The id in each block."""
    lines = [[line for line in block.split(b"\n") if line.startswith(b"id: ")] for block in blocks.split(b"\n\n")[:-1]]
    return [found[0][4:].decode() if found else None for found in lines]


def position(id: str) -> int:
    return int(id.rpartition("-")[2])


# With a cursor, and without ---------------------------------------------------------------------------------------------------


def test_without_a_cursor_only_what_comes_from_now_on(get: Get, publisher: Publisher) -> None:
    at = publisher.event("passed", to=["fresh"])
    stream = get("fresh")
    (connected,) = stream.next()
    assert (connected.type, connected.id) == ("connected", at)
    assert set(json.loads(connected.data)) == {"client_id", "participant"}
    assert data(stream.until(publisher.event("new", to=["fresh"]))) == ["new"]


def test_the_client_id_is_the_operators_name_of_the_stream(get: Get, daemon: RunningDaemon) -> None:
    names = [json.loads(get("named").next()[0].data)["client_id"] for _ in range(2)]
    assert len(set(names)) == 2
    rows = admin(daemon.admin, "GET", "/clients?participant=named")["clients"]
    assert {row["id"] for row in rows} >= set(names)


def test_with_a_cursor_everything_after_it_and_no_snapshots(get: Get, publisher: Publisher) -> None:
    cursor = publisher.event("0", to=["back"])
    published = [publisher.event(str(i), to=["back"], retain=i == 2) for i in range(1, 5)]
    for opened in (get("back", cursor), get("back", target=f"/events?last_event_id={cursor}")):
        connected, *events = opened.until(published[-1])
        assert (connected.type, connected.id) == ("connected", cursor)
        assert [(m.id, m.data) for m in events] == list(zip(published, "1234", strict=True))
    live = publisher.event("5", to=["back"])
    assert [(m.id, m.data) for m in opened.until(live)] == [(live, "5")]


@pytest.mark.parametrize(
    ("target", "headers", "used"),
    [
        ("/events", [("Last-Event-ID", "{a}")], "a"),
        ("/events", [("last-event-id", "{a}")], "a"),
        ("/events?last_event_id={a}", [], "a"),
        ("/events?lastEventId={a}", [], "a"),
        ("/events?lastEventId={b}", [("Last-Event-ID", "{a}")], "a"),
        ("/events?last_event_id={b}", [("Last-Event-ID", "{a}")], "a"),
        ("/events", [("Last-Event-ID", "")], None),
        ("/events?last_event_id=", [], None),
        ("/events?lastEventId=", [], None),
        ("/events?last_event_id={a}", [("Last-Event-ID", "")], "a"),
        ("/events?last_event_id=&lastEventId={a}", [], "a"),
    ],
)
def test_where_the_cursor_stands(get: Get, publisher: Publisher, target: str, headers: list[Header], used: str | None) -> None:
    names = {"a": publisher.event("a", to=["x"]), "b": publisher.event("b", to=["x"]), None: publisher.event("c", to=["x"])}
    places = {name: id for name, id in names.items() if name}
    stream = get("x", None, *[(name, value.format(**places)) for name, value in headers], target=target.format(**places))
    (connected,) = stream.next()
    assert (connected.type, connected.id) == ("connected", names[used])


def test_an_answer_to_a_producer_is_a_cursor_for_anybody(get: Get, publisher: Publisher) -> None:
    """A page that was rendered after an ack connects with its id, whomever the event was for, or with that of a control envelope."""
    publisher.event("before", to=["renderer"])
    event = publisher.event("x", to=["somebody"])
    (control,) = publisher.send(b'{"topic":"t","known":true}')
    after = publisher.event("after", to=["renderer"])
    for cursor in (event, control):
        assert data(get("renderer", cursor).until(after)[1:]) == ["after"]


def test_everybody_sees_one_order(get: Get, publisher: Publisher) -> None:
    before = publisher.event("before", to=["x"])
    live = get("o1")
    live.next()
    frames = [envelope(str(i), to="*" if i % 3 == 0 else ["o1", "o2"][: 1 + i % 2]) for i in range(200)]
    *_, last = publisher.send(*frames, envelope("end", to="*"))
    seen = [live.until(last), get("o1", before).until(last)[1:], get("o2", before).until(last)[1:]]
    assert data(seen[0]) == data(seen[1]) == [str(i) for i in range(200)] + ["end"]
    assert data(seen[2]) == [str(i) for i in range(200) if i % 3 == 0 or i % 2] + ["end"]
    assert set(seen[2]) <= set(seen[0])


class Counter:
    """A producer in a thread of its own that publishes 0, 1, 2 ... to one participant while it is in its `with`."""

    def __init__(self, address: str, **header: Any) -> None:
        self._address, self._header = address, header
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.last = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with Publisher(self._address) as publisher:
            for number in count():
                if self._end.is_set():
                    break
                self.last = publisher.event(str(number), **self._header)


def test_reconnecting_while_events_come_loses_none_and_repeats_none(
    get: Get, daemon: RunningDaemon, publisher: Publisher
) -> None:
    cursor = publisher.event("start", to=["restless"])
    got: list[str] = []
    with Counter(daemon.acked, to=["restless"]):
        for _ in range(40):
            stream = get("restless", cursor)
            stream.next()
            got += data(stream.next(random.randint(1, 25)))
            got += data(stream.wait(lambda: True))
            # What the chunks behind these held was never looked at: the cursor is that of the last one taken.
            cursor = stream.parser.last_event_id
            stream.client.socket.close()
    assert got == [str(i) for i in range(len(got))]


def test_snapshots_and_what_follows_them_join_without_a_hole(get: Get, daemon: RunningDaemon, publisher: Publisher) -> None:
    """The snapshot is the state as of H: what comes next is what was published next."""
    with Counter(daemon.acked, to=["state"], retain=True) as counter:
        while not counter.last:
            pass
        for _ in range(40):
            connected, snapshot, *following = get("state").next(5)
            assert connected.id == ""
            first = int(snapshot.data)
            assert data(following) == [str(first + 1 + i) for i in range(3)]


# Snapshots --------------------------------------------------------------------------------------------------------------------


def opening(stream: Response) -> list[tuple[str, str]]:
    """(type, data) of the snapshots: everything up to the first id."""
    return [(m.type, m.data) for m in stream.wait(lambda: stream.parser.last_event_id)[1:]]


def test_each_slot_keeps_the_latest(get: Get, publisher: Publisher) -> None:
    publisher.event("old", to=["slots"], topic="t1", type="a", retain=True)
    publisher.event("other type", to=["slots"], topic="t1", type="b", retain=True)
    publisher.event("other topic", to=["slots"], topic="t2", type="a", retain=True)
    publisher.event("no topic", to=["slots"], type="a", retain=True)
    publisher.event("other participant", to=["slots2"], topic="t1", type="a", retain=True)
    publisher.event("new", to=["slots"], topic="t1", type="a", retain=True)
    publisher.event("passing", to=["slots"], topic="t1", type="a")
    kept = [("b", "other type"), ("a", "other topic"), ("a", "no topic"), ("a", "new")]
    assert opening(get("slots")) == kept
    assert opening(get("slots2")) == [("a", "other participant")]

    live = get("slots")
    opening(live)
    cleared = publisher.event("", to=["slots"], topic="t1", type="a", retain=True)
    assert live.until(cleared) == [Message("a", "", cleared)] or data(live.messages)[-1:] == [""]
    assert opening(get("slots")) == kept[:3]


def test_public_snapshots_are_everybody_s_and_private_ones_their_own(get: Get, publisher: Publisher) -> None:
    publisher.event("public", to="*", topic="w", retain=True)
    publisher.event("ann and bob", to=["snap-ann", "snap-bob"], topic="w", retain=True)
    try:
        assert opening(get("snap-ann")) == [("message", "public"), ("message", "ann and bob")]
        assert opening(get("snap-bob")) == [("message", "public"), ("message", "ann and bob")]
        assert opening(get("snap-eve")) == [("message", "public")]
        # A slot is cleared for whom the clearing event names.
        publisher.event("", to=["snap-ann"], topic="w", retain=True)
        assert opening(get("snap-ann")) == [("message", "public")]
        assert opening(get("snap-bob")) == [("message", "public"), ("message", "ann and bob")]
    finally:
        publisher.event("", to="*", topic="w", retain=True)
    assert opening(get("snap-eve")) == []


def test_an_expired_snapshot_is_none(get: Get, publisher: Publisher, until_blocking: Until) -> None:
    publisher.event("short", to=["brief"], retain=True, ttl=0.05)
    publisher.event("long", to=["brief"], topic="t", retain=True, ttl=1000)
    until_blocking(lambda: opening(get("brief")) == [("message", "long")])


# Expiry -----------------------------------------------------------------------------------------------------------------------


def test_an_expired_event_is_skipped_and_is_no_hole(get: Get, publisher: Publisher, until_blocking: Until) -> None:
    cursor = publisher.event("before", to=["late"])
    publisher.event("short", to=["late"], ttl=0.05)
    publisher.event("long", to=["late"], ttl=1000)
    last = publisher.event("after", to=["late"])

    def replayed() -> list[Message]:
        return get("late", cursor).until(last)[1:]

    until_blocking(lambda: "short" not in data(replayed()))
    assert [(m.type, m.data) for m in replayed()] == [("message", "long"), ("message", "after")]


def test_an_event_with_a_ttl_is_delivered_while_it_lives(get: Get, publisher: Publisher) -> None:
    stream = get("prompt")
    stream.next()
    assert data(stream.until(publisher.event("x", to=["prompt"], ttl=1000))) == ["x"]


# Holes ------------------------------------------------------------------------------------------------------------------------


def check_resync(stream: Response, reason: str, cursor: str, snapshots: list[bytes], at: str) -> None:
    """The stream opens with `connected`, then the resync with its snapshots, of which only the last block has an id."""
    blocks = stream.blocks(2 + len(snapshots))
    connected, resync, *following = blocks.split(b"\n\n")[:-1]
    assert b"event: connected" in connected
    assert b"event: resync" in resync
    told = json.loads(resync.partition(b"data: ")[2])
    assert set(told) == {"reason", "missed"}
    assert told["reason"] == reason
    assert told["missed"] is None or told["missed"] > 0
    assert [block.partition(b"data: ")[2] for block in following] == snapshots
    carried = ids(blocks)
    assert carried[0] in (None, cursor)
    assert carried[1:] == [None] * len(snapshots) + [at]


@pytest.mark.parametrize("snapshots", [[], [b"one"], [b"one", b"two"]])
@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "0",
        "-",
        "{inc}",
        "{inc}-",
        "{inc}--1",
        "{inc}-01",
        "{inc}-1e1",
        "{inc}-999999",
        "{inc}-" + "9" * 60,
        "0-{inc}",
    ],
)
def test_unknown_cursor(get: Get, publisher: Publisher, cursor: str, snapshots: list[bytes]) -> None:
    key = f"unknown-{len(snapshots)}"
    for number, snapshot in enumerate(snapshots):
        publisher.event(snapshot, to=[key], topic=str(number), retain=True)
    at = publisher.event("x", to=["nobody"])
    sent = cursor.format(inc=at.partition("-")[0])
    stream = get(key, sent)
    check_resync(stream, "unknown_cursor", "", snapshots, at)
    stream.wait(lambda: True)
    assert data(stream.until(publisher.event("after", to=[key]))) == ["after"]


def test_a_cursor_of_another_log(get: Get, publisher: Publisher) -> None:
    at = publisher.event("x", to=["nobody"])
    other = "0" * 12 + "-" + str(position(at))
    check_resync(get("other-log", other), "backend_reset", "", [], at)


def test_a_memory_log_begins_anew_and_says_so(get: Get) -> None:
    with RunningDaemon() as daemon:
        with Publisher(daemon.acked) as publisher:
            cursor = [publisher.event(str(i), to=["alice"]) for i in range(5)][1]
            assert data(get("alice", cursor, of=daemon).next(4)[1:]) == ["2", "3", "4"]
        daemon.restart()
        with Publisher(daemon.acked) as publisher:
            at = [publisher.event(f"other {i}", to=["bob"]) for i in range(5)][-1]
            check_resync(get("alice", cursor, of=daemon), "backend_reset", "", [], at)


def test_a_sqlite_log_goes_on_after_kill_9(get: Get) -> None:
    with RunningDaemon(backend="sqlite://{directory}/log.db") as daemon:
        with Publisher(daemon.acked) as publisher:
            cursor = [publisher.event(str(i), to=["alice"], retain=i == 3) for i in range(5)][1]
        daemon.restart(kill=True)
        stream = get("alice", cursor, of=daemon)
        assert [(m.type, m.data) for m in stream.next(4)[1:]] == [("message", "2"), ("message", "3"), ("message", "4")]
        with Publisher(daemon.acked) as publisher:
            assert data(stream.until(publisher.event("5", to=["alice"]))) == ["5"]
        assert opening(get("alice", of=daemon)) == [("message", "3")]


def test_expired(get: Get, little: RunningDaemon, little_publisher: Publisher) -> None:
    """Nothing of what is still kept after the hole is sent: the snapshots stand for it."""
    publisher = little_publisher
    cursor = publisher.event("first", to=["old"])
    publisher.event("one", to=["old"], topic="1", retain=True)
    publisher.event("two", to=["old"], topic="2", retain=True)
    for _ in range(10):
        at = publisher.send(*[envelope("x" * 1000, to=["old"])] * 10)[-1]
    stream = get("old", cursor, of=little)
    check_resync(stream, "expired", cursor, [b"one", b"two"], at)
    stream.wait(lambda: True)
    assert data(stream.until(publisher.event("after", to=["old"]))) == ["after"]
    # A cursor behind the hole needs none.
    assert data(get("old", at, of=little).next(2)[1:]) == ["after"]


def test_what_the_window_no_longer_holds_comes_from_the_log(get: Get, little: RunningDaemon, little_publisher: Publisher) -> None:
    publisher = little_publisher
    cursor = publisher.event("before", to=["page"])
    published = publisher.send(*[envelope(f"{i} " + "x" * 800, to=["page"]) for i in range(30)])
    publisher.event("not hers", to=["other"])
    connected, *events = get("page", cursor, of=little).until(published[-1])
    assert connected.id == cursor
    assert [m.id for m in events] == published


def fill(publisher: Publisher, key: str, first: int, many: int = 400) -> list[str]:
    """Publishes numbered events of about 1 kB, one message each ten."""
    frames = [envelope(f"{i} " + "x" * 1000, to=[key]) for i in range(first, first + many)]
    return [id for i in range(0, many, 10) for id in publisher.send(*frames[i : i + 10])]


def split_at_resync(messages: list[Message]) -> tuple[list[Message], Message, list[Message]]:
    """What comes before the (only) resync, the resync, and what comes after it."""
    (index,) = [i for i, m in enumerate(messages) if m.type == "resync"]
    return messages[:index], messages[index], messages[index + 1 :]


def test_lagged(get: Get, little: RunningDaemon, little_publisher: Publisher) -> None:
    """A client that stopped reading gets a whole beginning, then the hole with its size, the snapshots, and what follows."""
    publisher = little_publisher
    stream = get("lag", of=little, buffer=4096)
    stream.next()
    published = fill(publisher, "lag", 0)
    kept = publisher.event("state", to=["lag"], topic="s", retain=True)
    published.append(kept)
    stream.wait(lambda: any(m.type == "resync" for m in stream.messages))
    after = publisher.event("after", to=["lag"])
    stream.until(after)
    before, resync, behind = split_at_resync(stream.messages)
    assert [m.id for m in before[1:]] == published[: len(before) - 1], "what comes before the hole is a beginning without holes"
    assert json.loads(resync.data) == {"reason": "lagged", "missed": len(published) - (len(before) - 1)}
    # The resync itself carries no id: what the browser would send still stands before the hole.
    assert resync.id == before[-1].id
    assert [(m.data, m.id) for m in behind] == [("state", kept), ("after", after)]


def test_lagged_with_a_filter_cannot_count(get: Get, little: RunningDaemon, little_publisher: Publisher) -> None:
    publisher = little_publisher
    stream = get("choosy", of=little, target="/events?types=message", buffer=4096)
    stream.next()
    published = fill(publisher, "choosy", 0)
    stream.until(published[-1])
    _, resync, behind = split_at_resync(stream.messages)
    assert json.loads(resync.data) == {"reason": "lagged", "missed": None}
    assert (resync.id, behind) == (published[-1], [])


def test_lagging_again_while_the_snapshots_are_on_their_way_is_lagging(
    get: Get, little: RunningDaemon, little_publisher: Publisher
) -> None:
    publisher = little_publisher
    publisher.event("s" * 500_000, to=["twice"], topic="s", retain=True)
    stream = get("twice", of=little, buffer=4096)
    # It has not even read its snapshot when it is overtaken; and again when it reads the resync's.
    fill(publisher, "twice", 0)
    stream.wait(lambda: any(m.type == "resync" for m in stream.messages))
    last = fill(publisher, "twice", 400)[-1]
    stream.until(last)
    found = [json.loads(m.data)["reason"] for m in stream.messages if m.type == "resync"]
    assert len(found) >= 1
    assert set(found) == {"lagged"}
    assert data([m for m in stream.messages if m.type == "message"])[0] == "s" * 500_000


# Slow clients -----------------------------------------------------------------------------------------------------------------


def test_a_slow_client_is_not_thinned_and_holds_nobody_up(get: Get, daemon: RunningDaemon, publisher: Publisher) -> None:
    slow, quick = get("slow", buffer=4096), get("slow")
    for stream in (slow, quick):
        stream.next()
    published = fill(publisher, "slow", 0, 3000)
    assert [m.id for m in quick.until(published[-1])] == published
    (row,) = [r for r in admin(daemon.admin, "GET", "/clients?participant=slow")["clients"] if r["lag"]]
    assert row["state"] == "behind"
    # Now it reads: everything is there, in order, and then it is live again.
    assert [m.id for m in slow.until(published[-1])] == published
    assert data(slow.until(publisher.event("live", to=["slow"]))) == ["live"]


def test_a_client_that_makes_no_progress_is_closed_and_comes_back_where_it_was(get: Get, until_blocking: Until) -> None:
    with RunningDaemon(STALLING) as daemon, Publisher(daemon.acked) as publisher:
        stream = get("stuck", of=daemon, buffer=4096)
        stream.next()
        published = fill(publisher, "stuck", 0, 1000)

        def closed() -> list[str]:
            return [row["reason"] for row in admin(daemon.admin, "GET", "/clients?closed=1&participant=stuck")["clients"]]

        assert until_blocking(closed) == ["stalled"]
        got = []
        try:
            while (chunk := stream.chunk()) is not None:
                got.append(chunk)
        except (AssertionError, ConnectionResetError):
            pass  # cut in the middle of a block, which does not count
        seen = [m.id for m in stream.messages[1:]]
        assert seen == published[: len(seen)]
        rest = get("stuck", stream.parser.last_event_id, of=daemon).until(published[-1])[1:]
        assert seen + [m.id for m in rest] == published
