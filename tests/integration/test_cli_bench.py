"""`sse-daemon bench` against a running daemon."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.client import Client
from tests.integration.daemon import RunningDaemon, command

TINY = ("--n", "20", "--w", "1,4", "--seconds", "0.1s", "--events", "10")
EVERY = ("to-all", "to-one", "idle", "latency", "opening", "storm", "stalled", "acked", "participants", "kept", "recipients")
OPENED = {"opening", "storm"}
"""Cases whose deliveries do not begin with an event's sending."""


def bench(daemon: RunningDaemon, *cases: str, status: int = 0) -> dict[str, Any]:
    """What the command prints for these cases."""
    chosen = [word for case in cases for word in ("--case", case)]
    done = daemon.command("bench", *chosen, *TINY, "--json", timeout=120)
    assert done.returncode == status, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def faults(result: dict[str, Any]) -> list[str]:
    """What was wrong but for how busy the machine was."""
    return [fault for fault in result["faults"] if "generator" not in fault]


def test_every_delivery_of_every_case_arrives() -> None:
    # `kept` sends a hundred thousand events, which is a test of patience; `recipients` opens a thousand streams, three times.
    cases = [case for case in EVERY if case not in ("kept", "recipients")]
    with RunningDaemon() as daemon:
        document = bench(daemon, *cases)
        assert document["skipped"] == []
        results = document["results"]
        assert {result["case"] for result in results} == set(cases)
        for result in results:
            assert faults(result) == [], result
            assert result["lost"] == 0
            assert result["received"] == result["expected"]
            assert result["figures"]
            assert 0 < result["generator"] < 4
            if result["case"] != "opening":
                assert result["received"] > 0, result
        (storm,) = [result for result in results if result["case"] == "storm"]
        assert storm["received"] == 20 * storm["at"]["missed"]
        assert storm["figures"]["holes"] == storm["figures"]["repeats"] == 0


def test_the_daemon_counted_the_same() -> None:
    with RunningDaemon() as daemon:
        (one, four) = bench(daemon, "to-all")["results"]
        metrics = daemon.ask("stats")["metrics"]
        assert metrics["deliveries_total"] >= one["received"] + four["received"]
        assert metrics["deliveries_total"] % 20 == 0
        assert metrics["streams_opened_total"] == 20


def test_nobody_who_is_really_there_gets_anything() -> None:
    with RunningDaemon() as daemon, Client(daemon.http_port) as client:
        client.get("/events?public_key=alice")
        bench(daemon, "to-all", "to-one", "storm")
        (alice,) = daemon.ask("clients", "--participant", "alice")["clients"]
        assert alice["delivered"] == 0


def test_a_daemon_is_measured_without_its_admin_socket_but_not_its_processor() -> None:
    with RunningDaemon() as daemon:
        where = ("--http", daemon.http.removeprefix("http://"), "--pubsub", daemon.pubsub)
        done = command("bench", "--case", "to-all", *TINY, *where, "--json", SSE_DAEMON_ADMIN_SOCKET="/nowhere")
        assert done.returncode == 0, done.stderr
        for result in json.loads(done.stdout)["results"]:
            assert result["received"] == result["expected"] > 0
            assert "cpu_us_per_delivery" not in result["figures"]


def test_people_get_a_table_and_are_told_whom_it_publishes_to() -> None:
    with RunningDaemon() as daemon:
        done = daemon.command("bench", "--case", "idle", *TINY)
        assert done.returncode == 0, done.stderr
        head, line = done.stdout.splitlines()
        assert head.split() == ["CASE", "MEASURED", "DAEMON", "GENERATOR"]
        assert line.startswith("idle")
        assert "us p99" in line
        assert "publishing to participants bench-" in done.stderr


def test_more_streams_than_files_are_not_tried_and_it_says_whose_limit_that_is() -> None:
    with RunningDaemon() as daemon:
        done = daemon.command("bench", "--case", "to-all", "--n", "20,10000000", "--w", "1", "--seconds", "0.1s", "--json")
        assert done.returncode == 1
        document = json.loads(done.stdout)
        assert [result["at"]["n"] for result in document["results"]] == [20]
        assert "open files" in document["skipped"][0]["reason"]


def test_a_case_that_measured_nothing_is_none_of_the_results() -> None:
    with RunningDaemon() as daemon:
        where = ("--http", daemon.http.removeprefix("http://"), "--pubsub", daemon.pubsub)
        with RunningDaemon() as other:
            cases = ("--case", "to-one", "--case", "acked", *TINY)
            done = command("bench", *where, "--acked", other.acked, *cases, "--json", timeout=120)
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert {result["case"] for result in document["results"]} == {"to-one"}
    assert {each["case"] for each in document["skipped"]} == {"acked"}
    assert "nothing arrived of what was published" in document["skipped"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--case", "acked", "--http", "127.0.0.1:1", "--pubsub", "tcp://127.0.0.1:1"), "needs an acked address"),
        (("--n", "0"), "no list of numbers"),
        (("--n", "many"), "no list of numbers"),
        (("--case", "everything"), "everything"),
        (("--http", "8080", "--pubsub", "tcp://127.0.0.1:1"), "not host:port"),
    ],
)
def test_a_wrong_call_is_said(arguments: tuple[str, ...], said: str) -> None:
    done = command("bench", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_no_daemon_is_said_on_one_line() -> None:
    done = command("bench", SSE_DAEMON_ADMIN_SOCKET="/nowhere/admin.sock")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no daemon listens" in done.stderr


def test_a_daemon_that_wants_proof_is_not_measured_and_says_which_would_be() -> None:
    with RunningDaemon(dev=False) as daemon:
        done = command("bench", "--admin", str(daemon.admin), "--case", "idle")
    assert done.returncode == 1
    assert "[auth] mode is 'proof'" in done.stderr and "serve --dev" in done.stderr
