"""What producers can rely on: envelopes, answers, repeats, bounds. A real daemon; producers on bare ZeroMQ sockets."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, Client, Pub, ask, connect, event, group, metrics, operator, positions, tally, wait

MIB = 1024 * 1024
FEW = """
[ingest]
max_groups = 3
max_members = 4
max_topics = 2
max_recipients = 5
max_frames = 6
max_producers = 20
[backend]
retained_slots = 2
[[stream]]
path = "/known/{name}"
topic = "known.{name}"
participant = "none"
unknown_topic = "404"
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningDaemon]:
    """One daemon for all tests that leave nothing behind but events, each for participants of its own."""
    with RunningDaemon() as daemon:
        yield daemon


@pytest.fixture
def acked(shared: RunningDaemon) -> Iterator[Acked]:
    with Acked(shared.acked) as acked:
        yield acked


@pytest.fixture
def pub(shared: RunningDaemon) -> Iterator[Pub]:
    with Pub(shared.pubsub) as pub:
        yield pub


def received(client: Client, acked: Acked, participant: str) -> list[str]:
    """The data of all that the client got, up to an event that is sent now."""
    acked.store(event([participant], "the end"))
    wait(lambda: "the end" in client.data, "the last event", [client])
    return client.data[:-1]


# Data -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b'{"to":["data"]}\n{"sid":"m1","body":"hi"}', '{"sid":"m1","body":"hi"}'),
        (b'{"to":["data"]}\n', ""),
        (b'{"to":["data"]}\n  two spaces, and a second line\n\n', "  two spaces, and a second line\n\n"),
        (b'{"to":["data"]}\na\r\nb\rc\nd', "a\nb\nc\nd"),
        (b'{"to":["data"],"data":"a \\" string"}', 'a " string'),
        (b'{"to":["data"],"data":"two\\r\\nlines\\rthree"}', "two\nlines\nthree"),
        ('{"to":["data"],"data": {"z": 1, "a": ["é", null, "/"], "ü": {"y": true}}}'.encode(), '{"z":1,"a":["é",null,"/"],"ü":{"y":true}}'),
        (b'{"to":["data"],"data":"\\u00e9"}', "é"),
        ('{"to":["data"]}\n\u2028\u0085\u0000 \U0001f600'.encode(), "\u2028\u0085\u0000 \U0001f600"),
    ],
)  # fmt: skip
def test_data_arrives_as_it_was_written_but_for_line_ends(
    shared: RunningDaemon, acked: Acked, frame: bytes, data: str | None
) -> None:
    with connect(shared, "data") as client:
        acked.store(frame)
        # Data that is empty is no event to a browser, and none to the parser.
        assert received(client, acked, "data") == ([] if data is None else [data])


def test_an_event_is_for_those_it_names_and_has_its_type_topic_and_attributes(shared: RunningDaemon, acked: Acked) -> None:
    with (
        connect(shared, "named-a", topics="chat.*", types="x,y") as narrow,
        connect(shared, "named-a", **{"attr.lang": "de,en"}) as lang,
        connect(shared, "named-b") as b,
        connect(shared, "named-c") as c,
    ):
        acked.store(event(["named-a", "named-b"], "1", type="x", topic="chat.1", attrs={"lang": "fr"}))
        acked.store(event(["named-a"], "2", topic="chat.1", attrs={"lang": ["fr", "en"]}))
        acked.store(event("*", "3", type="y", topic="other"))
        clients = [narrow, lang, b, c]
        for name in ("named-a", "named-b", "named-c"):
            acked.store(event([name], "end", type="y", topic="chat.2", attrs={"lang": "de"}))
        wait(lambda: all("end" in client.data for client in clients), "the last event", clients)
        assert [client.data[:-1] for client in clients] == [["1"], ["2"], ["1", "3"], ["3"]]
        assert [(m.type, m.data) for m in b.events] == [("x", "1"), ("y", "3"), ("y", "end")]
        assert [m.type for m in lang.events] == ["message", "y"]


# Messages of several frames ---------------------------------------------------------------------------------------------------


def test_a_batch_is_one_record(shared: RunningDaemon, acked: Acked, pub: Pub) -> None:
    with connect(shared, "batch") as client:
        ids = acked.store(*(event(["batch"], str(i)) for i in range(5)))
        assert positions(ids) == list(range(positions(ids)[0], positions(ids)[0] + 5))
        pub.send(*(event(["batch"], str(i)) for i in range(5, 10)))
        assert client.wait_events(10) == [str(i) for i in range(10)]
        assert [m.id for m in client.events[:5]] == ids


@pytest.mark.parametrize(
    "bad",
    [
        b"{not json",
        event([], "for nobody"),
        event(["whole"], "x", group="unknown-to-all"),  # found out later than what is malformed: when it is appended
        event(["whole"], b"\xff"),
    ],
)
def test_a_batch_is_refused_whole_with_the_place_of_its_first_bad_event(
    shared: RunningDaemon, acked: Acked, pub: Pub, bad: bytes
) -> None:
    good = event(["whole"], "good")
    refused_before = sum(metrics(shared)["messages_refused_total"].values())
    with connect(shared, "whole") as client:
        assert acked.refused(good, good, bad, good, bad)[1] == 2
        pub.send(good, good, bad, good)
        wait(lambda: sum(metrics(shared)["messages_refused_total"].values()) == refused_before + 2, "both to be refused")
        assert received(client, acked, "whole") == []


def test_a_first_frame_that_is_no_header_is_the_topic_of_those_that_name_none(
    shared: RunningDaemon, acked: Acked, pub: Pub
) -> None:
    with connect(shared, "topical", topics="sport") as sport, connect(shared, "topical", topics="news") as news:
        acked.store(b"sport", event(["topical"], "1"), event(["topical"], "2", topic="news"))
        pub.send(b"sport", event(["topical"], "3"))
        assert sport.wait_events(2) == ["1", "3"]
        assert news.wait_events(1) == ["2"]
    assert acked.refused(b"sport") == ("bad_header", 0)
    assert acked.refused(b"", event(["topical"])) == ("bad_topic", 0)
    assert acked.refused(b"a\nb", event(["topical"])) == ("bad_topic", 0)
    # The index is that of an event: a topic frame is none.
    assert acked.refused(b"sport", event(["topical"]), event([])) == ("no_recipient", 1)


# The header -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (event([]), "no_recipient"),
        (event(None), "bad_to"),
        (event("alice"), "bad_to"),
        (event(["*"]), "bad_participant"),
        (event([""]), "bad_participant"),
        (event(["a b"]), "bad_participant"),
        (event(["a" * 257]), "bad_participant"),
        (event([1]), "bad_participant"),
        (event(["a"], type="connected"), "reserved_type"),
        (event(["a"], type="heartbeat"), "reserved_type"),
        (event(["a"], type="resync"), "reserved_type"),
        (event(["a"], type="bye"), "reserved_type"),
        (event(["a"], type="x\ndata: injected"), "bad_type"),
        (event(["a"], topic="x\u0007"), "bad_topic"),
        (event(["a"], topic="x" * 201), "bad_topic"),
        (event(["a"], attrs={"a": 1}), "bad_attrs"),
        (event(["a"], attrs={"a": {"b": "c"}}), "bad_attrs"),
        (event(["a"], attrs=[]), "bad_attrs"),
        (event(["a"], retain="yes"), "bad_retain"),
        (event(["a"], ttl=0), "bad_ttl"),
        (event(["a"], ttl="1"), "bad_ttl"),
        (event(["a"], sender="run"), "bad_origin"),
        (event(["a"], n=1), "bad_origin"),
        (event(["a"], sender="run", n=0), "bad_origin"),
        (event(["a"], sender="run", n=1.5), "bad_origin"),
        (event(["a"], sender="run", n=True), "bad_origin"),
        (event(["a"], colour="red"), "unknown_member"),
        (b'{"to":["a"],"to":["b"]}\n', "duplicate_member"),
        (b'{"to":["a"],"attrs":{"x":"1","x":"2"}}\n', "duplicate_member"),
        (b'{"to":["a"]', "bad_header"),
        (b'{"to":["a"],"ttl":NaN}\n', "bad_ttl"),
        (b'{"to":["\xff"]}\n', "not_utf8"),
        (b'{"to":["a"]}\n\xff', "not_utf8"),
        (event(["a"], "x", data2=1).replace(b"data2", b"data"), "bad_data"),
        (b'{"group":"g","members":"a"}', "bad_group"),
        (b'{"group":"g","members":["a"]}\ndata', "bad_group"),
        (b'{"group":"g","members":["a"],"type":"x"}', "unknown_member"),
        (b'{"topic":"t","known":1}', "bad_topic"),
    ],
)
def test_what_breaks_a_rule_of_the_header_is_answered_with_its_code(acked: Acked, frame: bytes, code: str) -> None:
    assert acked.refused(frame) == (code, 0)


def test_a_topic_and_a_participant_may_be_as_long_as_promised(shared: RunningDaemon, acked: Acked) -> None:
    with connect(shared, "k" * 256) as client:
        acked.store(event(["k" * 256], "x", topic="t" * 200))
        assert client.wait_events(1) == ["x"]


# Groups, topics, snapshots, expiry --------------------------------------------------------------------------------------------


def test_a_group_is_in_force_for_the_next_message_of_the_same_socket(shared: RunningDaemon, acked: Acked, pub: Pub) -> None:
    with connect(shared, "member-a") as a, connect(shared, "member-b") as b, connect(shared, "named-too") as c:
        for number in range(50):
            # Nothing between the two: the one that uses it must not overtake the one that sets it.
            pub.send(group("pub", "member-a" if number % 2 else "member-b"))
            pub.send(event(None, str(number), group="pub"))
        assert a.wait_events(25) == [str(i) for i in range(1, 50, 2)]
        assert b.wait_events(25) == [str(i) for i in range(0, 50, 2)]
        acked.store(group("acked", "member-a", "member-b"))
        acked.store(event(["named-too", "member-a"], "all three", group="acked"))
        for client, before in ((a, 25), (b, 25), (c, 0)):
            assert client.wait_events(before + 1)[before:] == ["all three"]
        # In one message, too.
        acked.store(group("acked", "member-b"), event(None, "only b", group="acked"))
        assert b.wait_events(27)[-1] == "only b"
        assert received(a, acked, "member-a")[26:] == []


def test_a_group_without_members_is_gone(shared: RunningDaemon, acked: Acked, pub: Pub) -> None:
    assert acked.refused(event(None, group="fleeting")) == ("unknown_group", 0)
    acked.store(group("fleeting", "a"))
    assert {"name": "fleeting", "members": ["a"]} in operator(shared, "/groups")["groups"]
    acked.store(event(None, group="fleeting"))
    acked.store(group("fleeting"))
    assert acked.refused(event(None, group="fleeting")) == ("unknown_group", 0)
    # `to` does not save it: its producer wanted more people than would get it.
    assert acked.refused(event(["a"], group="fleeting")) == ("unknown_group", 0)
    assert not [g for g in operator(shared, "/groups")["groups"] if g["name"] == "fleeting"]
    lost = metrics(shared)["events_lost_total"]
    pub.send(event(None, group="fleeting", sender="lossy/1", n=1))
    wait(lambda: tally(shared, "lossy/1").get("lost") == 1, "its loss to be counted")
    assert metrics(shared)["events_lost_total"] == lost + 1


def test_groups_members_are_those_of_the_time_when_the_event_was_accepted(shared: RunningDaemon, acked: Acked) -> None:
    acked.store(group("then", "then-a"))
    with connect(shared, "then-a") as first:
        start = first.parser.last_event_id
        acked.store(event(None, "for a", group="then"))
        acked.store(group("then", "then-b"))
    for name, data in (("then-a", ["for a"]), ("then-b", [])):
        with connect(shared, name, last_id=start) as client:
            assert received(client, acked, name) == data


def test_a_topic_is_known_from_its_declaration_until_it_is_forgotten() -> None:
    with RunningDaemon(FEW) as daemon, Acked(daemon.acked) as acked:
        assert ask(daemon, "GET", "/known/x").body["error"] == "unknown_topic"
        acked.store(b'{"topic":"known.x","known":true}')
        connect(daemon, path="/known/x").sock.close()
        assert operator(daemon, "/groups")["topics"] == ["known.x"]
        acked.store(b'{"topic":"known.x","known":false}')
        assert ask(daemon, "GET", "/known/x").status == 404


def test_what_is_retained_is_bounded_replaced_and_cleared() -> None:
    def snapshots(daemon: RunningDaemon) -> list[str]:
        with connect(daemon, "r") as client:
            return client.data

    with RunningDaemon(FEW) as daemon, Acked(daemon.acked) as acked:
        acked.store(event(["r"], "old", retain=True, topic="a"), event(["r"], "b", retain=True, topic="b"))
        acked.store(event(["r"], "new", retain=True, topic="a"))
        assert sorted(snapshots(daemon)) == ["b", "new"]
        assert acked.refused(event(["r"], "x"), event(["r"], "c", retain=True, topic="c")) == ("retained_full", 1)
        assert sorted(snapshots(daemon)) == ["b", "new"]
        acked.store(event(["r"], "", retain=True, topic="a"))
        acked.store(event(["r"], "c", retain=True, topic="c"))
        assert sorted(snapshots(daemon)) == ["b", "c"]


def test_an_expired_event_is_skipped_and_is_no_hole(shared: RunningDaemon, acked: Acked) -> None:
    with connect(shared, "mortal") as client:
        start = client.parser.last_event_id
        acked.store(event(["mortal"], "lives a while", ttl=0.1))
        acked.store(event(["mortal"], "lives on", ttl=1000))
        assert client.wait_events(2) == ["lives a while", "lives on"]

    def left() -> list[str]:
        with connect(shared, "mortal", last_id=start) as again:
            again.wait_events(1)
            assert not again.of("resync")
            return again.data

    wait(lambda: left() == ["lives on"], "its expiry")


# Numbers ----------------------------------------------------------------------------------------------------------------------


def test_a_repeat_is_answered_with_the_first_ids_and_stored_once_on_both_sockets(
    shared: RunningDaemon, acked: Acked, pub: Pub
) -> None:
    with connect(shared, "repeats") as client:
        one, two, three = (event(["repeats"], str(n), sender="rep/1", n=n) for n in (1, 2, 3))
        first = acked.store(one)
        assert acked.store(one) == first
        pub.send(one)
        pub.send(two)
        wait(lambda: tally(shared, "rep/1").get("accepted") == 2, "the second to be stored")
        second = acked.store(two)
        assert client.wait_events(2) == ["1", "2"]
        assert [m.id for m in client.events] == first + second
        # A batch of which a part is known; and the other order.
        assert acked.store(one, three, two)[::2] == first + second
        assert received(client, acked, "repeats") == ["1", "2", "3"]
    row = tally(shared, "rep/1")
    assert (row["first"], row["highest"], row["missing"]) == (1, 3, 0)
    assert row["repeated"] >= 3


def test_numbers_out_of_order_lose_nothing(shared: RunningDaemon, acked: Acked, pub: Pub) -> None:
    with connect(shared, "order") as client:
        for count, n in enumerate((1, 2, 3, 4, 6, 5, 8, 7), 1):
            send = acked.store if n % 2 else pub.send
            send(event(["order"], str(n), sender="ooo/1", n=n))
            client.wait_events(count)
        assert client.data == ["1", "2", "3", "4", "6", "5", "8", "7"]
    assert tally(shared, "ooo/1")["missing"] == 0


def test_gaps_are_counted_by_producer(shared: RunningDaemon, pub: Pub) -> None:
    before = metrics(shared)["events_missing"]
    for sender, numbers in (("gap/1", (1, 2, 5, 9)), ("gap/2", (7, 8))):
        for n in numbers:
            pub.send(event(["gaps"], sender=sender, n=n))
    wait(lambda: tally(shared, "gap/2").get("accepted") == 2, "all of them")
    assert tally(shared, "gap/1")["missing"] == 5
    assert tally(shared, "gap/2")["missing"] == 0
    assert metrics(shared)["events_missing"] == before + 5
    pub.send(event(["gaps"], sender="gap/1", n=4))
    wait(lambda: tally(shared, "gap/1")["missing"] == 4, "the gap to be smaller")


def test_a_repeat_in_a_batch_does_not_hide_a_gap(shared: RunningDaemon, acked: Acked) -> None:
    one, two, four = (event(["gaps"], sender="gap/3", n=n) for n in (1, 2, 4))
    acked.store(one)
    acked.store(one, two, four)
    assert tally(shared, "gap/3")["missing"] == 1


def test_a_refused_number_is_not_remembered(shared: RunningDaemon, acked: Acked) -> None:
    acked.store(event(["again"], "1", sender="again/1", n=1))
    with connect(shared, "again") as client:
        bad, good = event(["again"], "2", group="no-such", sender="again/1", n=2), event(["again"], "2", sender="again/1", n=2)
        assert acked.refused(bad) == ("unknown_group", 0)
        # Refused with it, though there was nothing wrong with it.
        assert acked.refused(event(["again"], "3", sender="again/1", n=3), bad) == ("unknown_group", 1)
        acked.store(good)
        acked.store(event(["again"], "3", sender="again/1", n=3))
        assert received(client, acked, "again") == ["2", "3"]


def test_what_is_refused_over_pubsub_is_lost_and_counted_for_its_producer(shared: RunningDaemon, pub: Pub) -> None:
    before = metrics(shared)
    for n, bad in enumerate(({"ttl": -1}, {}, {"ttl": -1}), 1):
        pub.send(event(["told"], sender="told/1", n=n, **bad))
    wait(lambda: tally(shared, "told/1").get("refused") == 2, "both to be refused")
    wait(lambda: tally(shared, "told/1")["accepted"] == 1, "the good one")
    row = tally(shared, "told/1")
    assert (row["highest"], row["missing"], row["lost"]) == (3, 0, 2)
    # A batch is lost whole, whether its events say whose they are or not.
    pub.send(b"topic", event(["told"], sender="told/2", n=1), event(["a b"], sender="told/2", n=2), event(["told"]))
    wait(lambda: tally(shared, "told/2").get("lost") == 2, "the batch to be refused")
    after = metrics(shared)
    assert after["events_lost_total"] == before["events_lost_total"] + 5
    assert after["events_missing"] == before["events_missing"]


def test_what_is_refused_on_the_acked_socket_is_no_gap_and_not_lost(shared: RunningDaemon, acked: Acked) -> None:
    before = metrics(shared)["events_lost_total"]
    for n, bad in enumerate(({"ttl": -1}, {"group": "no-such"}, {"to": ["a b"]}), 1):
        acked.refused(event(**{"to": ["told"], "sender": "told/3", "n": n, **bad}))
    acked.store(*(event(["told"], sender="told/3", n=n) for n in (4, 5, 6)))
    row = tally(shared, "told/3")
    assert (row["refused"], row["missing"], row["lost"], row["accepted"]) == (3, 0, 0, 3)
    assert metrics(shared)["events_lost_total"] == before


def test_the_log_says_whose_event_was_refused() -> None:
    with RunningDaemon() as daemon, Acked(daemon.acked) as acked:
        assert acked.refused(event(["x"], sender="whose/1", n=1), event(["x"], sender="whose/1", n=2, ttl=-1)) == ("bad_ttl", 1)
        wait(lambda: bool(daemon.lines("message refused")), "the line")
        line = daemon.lines("message refused")[0]
        assert (line["from"], line["n"], line["address"], line["index"]) == ("whose/1", "2", "127.0.0.1", "1")


@pytest.mark.parametrize("backend", ["memory://", "sqlite://{directory}/log.db"])
def test_what_is_remembered_no_longer_is_refused_and_never_stored_twice(backend: str) -> None:
    config = "[backend]\ndedupe_window = 0.3"
    with RunningDaemon(config, backend=backend) as daemon, Acked(daemon.acked) as acked, connect(daemon, "old") as client:
        frame = event(["old"], "x", sender="old/1", n=1)
        first = acked.store(frame)
        answers: list[Any] = []

        def too_old() -> bool:
            answers.append(acked.ask(frame))
            return bool(answers[-1].get("code") == "too_old")

        wait(too_old, "its number to be forgotten")
        assert all(answer == {"ok": True, "ids": first} for answer in answers[:-1])
        assert received(client, acked, "old") == ["x"]


def test_a_number_that_stands_twice_in_a_batch_is_refused(acked: Acked) -> None:
    frame = event(["twins"], sender="twins/1", n=1)
    assert acked.refused(frame, event(["twins"], sender="twins/1", n=2), frame)[1] == 2


# The acked socket -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [b"1", b"\x00", bytes(range(64)), b"{" * 64])
def test_a_request_id_comes_back_as_it_was(acked: Acked, id: bytes) -> None:
    assert acked.ask(event(["ids"]), id=id)["ok"] is True


def test_request_ids_of_another_length_are_refused(acked: Acked) -> None:
    acked.send(event(["ids"]), id=b"x" * 65)
    assert json.loads(acked.receive()[-1])["code"] == "bad_request_id"
    acked.socket.send_multipart([b"", b"", event(["ids"])])
    assert json.loads(acked.receive()[-1])["code"] == "bad_request_id"
    acked.socket.send_multipart([b""])
    assert json.loads(acked.receive()[-1])["code"] == "bad_request_id"
    assert acked.refused()[0] == "empty_message"


def test_a_req_socket_is_served_too(shared: RunningDaemon) -> None:
    with Acked(shared.acked, zmq.REQ) as req:
        for number in range(3):
            id = req.store(event(["req"], str(number)))
            assert len(id) == 1
        assert req.refused(event([])) == ("no_recipient", 0)


def test_requests_of_one_socket_are_answered_and_stored_in_their_order(shared: RunningDaemon, acked: Acked) -> None:
    ids = [acked.send(event(["pipeline"], str(i))) for i in range(500)]
    answers = [acked.receive() for _ in range(500)]
    assert [id for id, _ in answers] == ids
    stored = [json.loads(answer)["ids"][0] for _, answer in answers]
    assert positions(stored) == sorted(positions(stored))


def test_an_acks_id_is_a_cursor(shared: RunningDaemon, acked: Acked) -> None:
    first, second = acked.store(event(["page"], "in the page"), event(["page"], "after it"))
    with connect(shared, "page", last_id=first) as client:
        client.wait_events(1)
        assert [(m.data, m.id) for m in client.events] == [("after it", second)]
        assert re.fullmatch(r"[0-9a-f]{12}-\d+", first)


def test_what_is_acked_has_been_delivered_to_the_streams_of_this_daemon(shared: RunningDaemon, acked: Acked) -> None:
    # "In force on the daemon that acked them": the page that is rendered now sees it.
    for number in range(50):
        acked.store(event(["now"], str(number), retain=True, topic="now"))
        with connect(shared, "now", topics="now") as client:
            assert client.data == [str(number)]


def test_the_daemon_serves_all_its_addresses() -> None:
    daemon = RunningDaemon()
    daemon.pubsub_addresses.append(f"ipc://{daemon.directory}/pub")
    daemon.acked_addresses.append(f"ipc://{daemon.directory}/acked")
    with daemon, connect(daemon, "all") as client:
        for number, address in enumerate(daemon.pubsub_addresses):
            with Pub(address) as pub:
                pub.send(event(["all"], f"pub {number}"))
                client.wait_events(2 * number + 1)
            with Acked(daemon.acked_addresses[number]) as acked:
                acked.store(event(["all"], f"acked {number}"))
                client.wait_events(2 * number + 2)
        assert client.data == ["pub 0", "acked 0", "pub 1", "acked 1"]


# Bad input, bounds, pressure --------------------------------------------------------------------------------------------------


def test_a_malformed_message_harms_only_itself(shared: RunningDaemon, pub: Pub, acked: Acked) -> None:
    before = metrics(shared)["messages_refused_total"]
    garbage = [
        b"{",
        b"{}",
        b"{\xff}\n",
        b"\xff\xfe",
        b"",
        b"{" * 10_000,
        b'{"to":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"[1]",
        b"null",
    ]
    with connect(shared, "harmless") as client:
        for number, frame in enumerate(garbage):
            pub.send(frame)
            pub.send(frame, frame, frame)
            pub.send(event(["harmless"], str(number)))
            assert acked.ask(frame)["ok"] is False
        assert client.wait_events(len(garbage)) == [str(i) for i in range(len(garbage))]
        assert received(client, acked, "harmless") == client.data[: len(garbage)]
    after = metrics(shared)["messages_refused_total"]
    assert sum(after.values()) - sum(before.values()) == 3 * len(garbage)
    assert "Traceback" not in shared.log()


def test_a_flood_of_garbage_leaves_the_daemon_serving_and_the_log_short() -> None:
    count = 100_000
    with RunningDaemon() as daemon, Pub(daemon.pubsub) as pub, Acked(daemon.acked) as acked, connect(daemon, "calm") as client:
        for number in range(count):
            pub.send(b'{"to":[]}' if number % 2 else b"{garbage \x1b[31m")
            if number % 20_000 == 0:
                acked.store(event(["calm"], str(number)))
        wait(lambda: sum(metrics(daemon)["messages_refused_total"].values()) == count, "all of it to be refused", [client])
        assert metrics(daemon)["messages_refused_total"] == {"no_recipient": count // 2, "bad_header": count // 2}
        assert client.wait_events(5) == [str(i) for i in range(0, count, 20_000)]
        assert len(daemon.log()) < 100_000
        assert "\x1b" not in daemon.log()
        assert daemon.lines("message refused")[0]["code"] in ("bad_header", "no_recipient")


def test_a_frame_is_as_long_as_promised_and_no_longer(shared: RunningDaemon, acked: Acked) -> None:
    head = event(["long"], "")
    with connect(shared, "long") as client:
        acked.store(head + b"x" * (MIB - len(head)))
        assert len(client.wait_events(1)[0]) == MIB - len(head)
        assert acked.refused(head + b"x" * (MIB + 1 - len(head))) == ("too_large", 0)
        assert acked.refused(event(["long"], "small"), head + b"x" * MIB) == ("too_large", 1)
        assert len(received(client, acked, "long")) == 1
    # One that is absurd costs its sender the connection, and nobody else anything.
    with Acked(shared.acked) as absurd:
        absurd.send(b"x" * 8 * MIB)
        acked.store(event(["long"], "x"))
        wait(lambda: absurd.ask(event(["long"], "x"))["ok"], "the sender to be served again")


def test_the_bounds_of_messages_and_tables() -> None:
    with RunningDaemon(FEW) as daemon, Acked(daemon.acked) as acked:
        frame = event(["a"])
        acked.store(*[frame] * 6)
        assert acked.refused(*[frame] * 7)[0] == "too_many_frames"
        acked.store(event(["a", "b", "c", "d", "e"]))
        assert acked.refused(event(["a", "b", "c", "d", "e", "f"])) == ("too_many_recipients", 0)
        assert acked.refused(group("g", "a", "b", "c", "d", "e")) == ("bad_group", 0)
        acked.store(group("g", "a", "b", "c", "d"))
        acked.store(event(["e"], group="g"))
        assert acked.refused(event(["e", "f"], group="g")) == ("too_many_recipients", 0)
        acked.store(group("h", "a"), group("i", "a"))
        assert acked.refused(group("j", "a")) == ("groups_full", 0)
        acked.store(group("h"))
        acked.store(group("j", "a"))
        acked.store(b'{"topic":"a","known":true}', b'{"topic":"b","known":true}')
        assert acked.refused(b'{"topic":"c","known":true}') == ("topics_full", 0)
        for run in range(20):
            acked.store(event(["a"], sender=f"run/{run}", n=1))
        # Beyond it either the one that was silent longest is forgotten or the new one is refused; never more are kept.
        acked.ask(event(["a"], sender="run/x", n=1))
        assert len(operator(daemon, "/producers")["producers"]) <= 20


def test_by_default_an_event_has_a_thousand_recipients(acked: Acked) -> None:
    names = [f"p{i}" for i in range(1001)]
    acked.store(event(names[:1000]))
    assert acked.refused(event(names)) == ("too_many_recipients", 0)


SMALL_QUEUE = "[ingest]\nqueue_bytes = 4096"


def test_with_the_queue_full_requests_are_answered_overloaded_and_may_be_repeated() -> None:
    with RunningDaemon(SMALL_QUEUE) as daemon, Acked(daemon.acked) as acked, connect(daemon, "burst") as client:
        frames: dict[bytes, bytes] = {}
        for n in range(1, 2001):
            frame = event(["burst"], str(n), sender="burst/1", n=n)
            frames[acked.send(frame)] = frame
        answers = acked.answers(2000)
        codes = {answer.get("code") for answer in answers.values()}
        assert codes == {None, "overloaded"}, "neither too little was sent nor was everything taken"
        stored = [frames[id] for id, answer in answers.items() if answer["ok"]]
        for id, answer in answers.items():
            if not answer["ok"]:
                acked.store(frames[id])
        # Refused whole, so once each; what was acked was stored.
        client.wait_events(2000)
        assert len(received(client, acked, "burst")) == 2000
        assert sorted(map(int, client.data[:-1])) == list(range(1, 2001))
        assert client.data[: len(stored)] == [frame.partition(b"\n")[2].decode() for frame in stored]
        assert metrics(daemon)["append_queue_bytes"] == 0


def test_answers_wait_for_a_thread_of_libzmq_that_is_late() -> None:
    """On a busy machine it may get its turn only after thousands were refused at once."""
    with ExitStack() as stack:
        daemon = stack.enter_context(RunningDaemon(SMALL_QUEUE))
        acked = stack.enter_context(Acked(daemon.acked))
        core = {min(os.sched_getaffinity(0))}
        for thread in map(int, os.listdir(f"/proc/{daemon.pid}/task")):
            os.sched_setaffinity(thread, core)
            if thread != daemon.pid:
                os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        stack.callback(busy.kill)
        os.sched_setaffinity(busy.pid, core)
        sent = {acked.send(event(["burst"], str(n))) for n in range(4000)}
        assert set(acked.answers(4000)) == sent
        assert metrics(daemon)["answers_undeliverable_total"] == 0


def test_with_the_queue_full_pubsub_is_not_read_and_read_on_later() -> None:
    with RunningDaemon(SMALL_QUEUE) as daemon, Pub(daemon.pubsub) as pub, connect(daemon, "patient") as client:
        for n in range(5000):
            pub.send(event(["patient"], str(n)))
        assert client.wait_events(5000) == [str(n) for n in range(5000)]
        assert metrics(daemon)["messages_refused_total"] == {}


# Raw bytes --------------------------------------------------------------------------------------------------------------------


def test_what_is_no_zeromq_at_all_disturbs_nobody(shared: RunningDaemon, acked: Acked) -> None:
    for address in (shared.pubsub, shared.acked):
        port = int(address.rpartition(":")[2])
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, struct.pack("!Q", 2**63), b""):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(data)
    acked.store(event(["anybody"], "x"))
