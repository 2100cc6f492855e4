"""Who may publish: strangers, keys that were taken back, limits, secrets that others can read. Peers on bare sockets."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zmq

from sse_daemon.curve_key import KeyPair, check_key, generate, read_secret
from sse_daemon.participant import canonical
from sse_daemon.producer import AckedProducer, Curve, Producer
from sse_daemon.producer_keys import read_authorized
from tests.hardening.curve import GREETING, Dealer, Guarded, ends, raw, ready
from tests.integration.daemon import RunningDaemon, command
from tests.integration.peers import connect, event, group, metrics, tally, wait

KEY = generate()
LIMITS = {
    "topics": 'topics = ["chat.*", "news"]',
    "recipients": 'recipients = ["alice", "team-*"]',
    "private": "public = false",
    "runs": 'from = ["chat-api/*"]',
}
LIMITED = {name: generate() for name in LIMITS}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Guarded]:
    """One daemon for the tests that change nothing: it knows KEY, and keys with limits."""
    daemon = Guarded()
    daemon.authorize("known", KEY.public)
    for name, limits in LIMITS.items():
        daemon.authorize(name, LIMITED[name].public, limits)
    with daemon:
        yield daemon


def dealer(daemon: Guarded, key: KeyPair | None, **options: Any) -> Dealer:
    return Dealer(daemon.acked, daemon.own.public, key, **options)


def reload(daemon: Guarded) -> None:
    """SIGHUP, and what it did."""
    before = len(daemon.lines("producers' keys read"))
    daemon.signal(signal.SIGHUP)
    wait(lambda: len(daemon.lines("producers' keys read")) > before, "the keys to be read")


# Who comes in -----------------------------------------------------------------------------------------------------------------


def test_a_known_producer_publishes_on_both_sockets(daemon: Guarded) -> None:
    curve = Curve(KEY, daemon.own.public)
    with (
        connect(daemon, "both") as client,
        Producer(daemon.pubsub, name="p", curve=curve) as pub,
        AckedProducer(daemon.acked, name="a", curve=curve) as acked,
    ):
        pub.publish("1", to=["both"])
        client.wait_events(1)
        acked.publish("2", to=["both"])
        assert client.wait_events(2) == ["1", "2"]


def test_the_command_line_publishes_with_a_key(daemon: Guarded) -> None:
    key = daemon.directory / "publish.key"
    made = command("keygen", "--curve", str(key))
    assert made.returncode == 0, made.stderr
    arguments = ("publish", "--acked", "--to", "cli", "--address", daemon.acked, "--key", str(key), "hello")
    assert command(*arguments).returncode == 2
    assert command(*arguments, "--server-key", "nonsense").returncode == 2
    stranger = command(*arguments, "--server-key", daemon.own.public, "--timeout", "1s")
    assert stranger.returncode == 1, stranger.stderr
    daemon.authorize("cli", made.stdout.strip())
    reload(daemon)
    known = command(*arguments, "--server-key", daemon.own.public)
    assert known.returncode == 0, known.stderr


def test_a_stranger_is_turned_away_counted_and_logged(daemon: Guarded) -> None:
    before = daemon.strangers()
    with dealer(daemon, generate()) as stranger, dealer(daemon, KEY) as known:
        stranger.send(event("*", "from a stranger"))
        assert known.ask(event(["a"], "x")) == "ok"
        wait(lambda: daemon.strangers() > before, "the stranger to be counted")
        assert stranger.answer(300) is None
    assert [line for line in daemon.lines() if "turned away" in line["msg"]]


def test_a_producer_that_was_given_another_daemons_key_does_not_come_in(daemon: Guarded) -> None:
    before = daemon.failed()
    with Dealer(daemon.acked, generate().public, KEY) as misled:
        misled.send(event("*", "x"))
        wait(lambda: daemon.failed() > before, "it to be counted")


@pytest.mark.parametrize("mechanism", ["NULL", "PLAIN"])
def test_who_speaks_another_mechanism_than_curve_is_turned_away(daemon: Guarded, mechanism: str) -> None:
    before = daemon.failed()
    with dealer(daemon, None) as stranger, connect(daemon, "mechanism") as client, dealer(daemon, KEY) as known:
        if mechanism == "PLAIN":
            stranger.socket.disconnect(daemon.acked)
            stranger.socket.setsockopt(zmq.PLAIN_USERNAME, b"known")
            stranger.socket.setsockopt(zmq.PLAIN_PASSWORD, KEY.public.encode())
            stranger.socket.connect(daemon.acked)
        stranger.send(event(["mechanism"], "stranger"))
        wait(lambda: daemon.failed() > before, "it to be counted")
        assert known.ask(event(["mechanism"], mechanism)) == "ok"
        wait(lambda: mechanism in client.data, "the known one's event", [client])
        assert "stranger" not in client.data


def test_null_spoken_by_hand_to_a_curve_socket_gets_nothing_in(daemon: Guarded) -> None:
    stored = metrics(daemon)["events_accepted_total"]
    frames = b"\x01\x011" + b"\x00" + bytes([len(event("*", "x"))]) + event("*", "x")
    with raw(daemon.acked, GREETING + ready(b"DEALER") + frames) as connection:
        assert ends(connection)
    assert metrics(daemon)["events_accepted_total"] == stored


# What is configured -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://eth0:5556"])
def test_an_address_that_others_reach_needs_curve_at_check_config_and_at_start(tmp_path: Path, address: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'[auth]\nmode = "claim"\n[ingest]\npubsub = ["{address}"]\n')
    for arguments in (("check-config", str(file)), ("serve", "--config", str(file), "--admin", str(tmp_path / "a"))):
        done = command(*arguments)
        assert done.returncode == 2, done.stderr
        assert "curve_secret" in done.stderr


def test_half_of_what_curve_needs_is_a_mistake(tmp_path: Path) -> None:
    for key, other in (("curve_secret", "authorized_keys"), ("authorized_keys", "curve_secret")):
        file = tmp_path / "c.toml"
        file.write_text(f'[ingest]\n{key} = "/x"\n')
        done = command("check-config", str(file), "--dev")
        assert done.returncode == 2
        assert f"needs {other}" in done.stderr


@pytest.fixture
def unstarted() -> Iterator[Guarded]:
    """A daemon that a test starts, or means not to start."""
    daemon = Guarded()
    yield daemon
    daemon._end()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_may_read_is_refused_at_check_config_and_at_start(unstarted: Guarded, mode: int) -> None:
    unstarted.secret.chmod(mode)
    unstarted.launch()
    assert unstarted.wait() == 2
    done = command("check-config", str(unstarted._config), "--dev")
    assert done.returncode == 2
    for said in (unstarted.log(), done.stderr):
        assert "chmod 600" in said
        assert unstarted.own.secret not in said


def test_files_that_are_no_keys_are_refused_and_not_shown(unstarted: Guarded) -> None:
    unstarted.secret.write_text('secret_key = "swordfish"\n')
    unstarted.authorize("typo", KEY.public, 'topic = ["chat.*"]')
    unstarted.authorize("short", "swordfish")
    unstarted.authorize("twin", generate().public)
    unstarted.authorize("twin2", (unstarted.folder / "twin.toml").read_text().split('"')[1])
    unstarted.launch()
    assert unstarted.wait() == 2
    log = unstarted.log()
    assert "swordfish" not in log
    for wrong in (
        "curve_secret:",
        "typo.toml has 'topic', which is unknown",
        "short.toml public_key:",
        "has the key of 'twin' too",
    ):
        assert wrong in log


def test_a_credential_of_systemd_may_show_the_groups_bits(unstarted: Guarded, tmp_path: Path) -> None:
    unstarted.secret.chmod(0o440)
    assert read_secret(unstarted.secret, str(unstarted.directory)) == unstarted.own
    for folder in (None, "", str(tmp_path)):
        with pytest.raises(ValueError, match="mode 0440"):
            read_secret(unstarted.secret, folder)
    unstarted.secret.chmod(0o444)
    with pytest.raises(ValueError, match="mode 0444"):
        read_secret(unstarted.secret, str(unstarted.directory))


def test_keygen_writes_a_secret_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = command("keygen", "--curve", str(tmp_path))
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    file = tmp_path / "curve.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    pair = read_secret(file)
    assert done.stdout.strip() == pair.public == check_key(pair.public)
    assert pair.secret not in done.stdout + done.stderr + repr(pair)
    assert command("keygen", "--curve", str(file)).returncode == 1
    assert read_secret(file) == pair


def test_a_text_that_is_not_the_one_spelling_of_32_bytes_is_no_key() -> None:
    for text in ("#" * 40, "a" * 39, "a" * 41, "a" * 39 + "~", "", "ä" * 40):
        with pytest.raises(ValueError, match="no key"):
            check_key(text)


# Rights that end --------------------------------------------------------------------------------------------------------------


def test_a_producer_that_is_removed_has_no_right_from_its_next_message_on(unstarted: Guarded) -> None:
    daemon, other = unstarted, generate()
    daemon.authorize("fired", KEY.public)
    daemon.authorize("other", other.public)
    with daemon, dealer(daemon, KEY) as fired, dealer(daemon, other) as stays, connect(daemon, "a") as client:
        assert fired.ask(event(["a"], "1")) == "ok"
        (daemon.folder / "fired.toml").rename(daemon.folder / "fired.toml~")
        # A mistake elsewhere must not keep the right alive.
        (daemon.folder / "broken.toml").write_text("public_key = ")
        reload(daemon)
        assert fired.ask(event(["a"], "2")) == "not_authorized"
        assert stays.ask(event(["a"], "3")) == "ok"
        assert client.wait_events(2) == ["1", "3"]
        assert metrics(daemon)["messages_refused_total"]["not_authorized"] == 1
        assert daemon.lines("producers' keys read")[-1]["removed"] == "fired"
        assert "broken.toml" in daemon.lines("a producer's key is not authorized")[0]["mistake"]
        with dealer(daemon, KEY) as again:
            again.send(event(["a"], "4"))
            wait(lambda: daemon.strangers(), "its new connection to be turned away")
        daemon.authorize("fired", KEY.public)
        reload(daemon)
        assert fired.ask(event(["a"], "5")) == "ok"


def test_the_limits_of_a_producer_are_those_of_its_file_after_sighup(unstarted: Guarded) -> None:
    unstarted.authorize("p", KEY.public)
    with unstarted, dealer(unstarted, KEY) as producer:
        assert producer.ask(event(["a"], topic="x")) == "ok"
        unstarted.authorize("p", KEY.public, 'topics = ["y"]')
        reload(unstarted)
        assert producer.ask(event(["a"], topic="x")) == "not_authorized"
        assert producer.ask(event(["a"], topic="y")) == "ok"


def test_a_handshake_that_fails_is_logged_with_its_reason() -> None:
    with Guarded() as daemon, raw(daemon.acked, GREETING) as null:
        assert ends(null)
        with dealer(daemon, None), Dealer(daemon.acked, generate().public, KEY):
            told = {"one side uses CURVE and the other does not", "it does not use this daemon's public key"}
            # Who uses no CURVE leaves by itself when it hears of it: which end is first is chance.
            left = "it left during the handshake, as one does that uses no CURVE"

            def seen(fact: str) -> set[str]:
                return {line[fact] for line in daemon.lines("a producer's handshake failed") if fact in line}

            wait(lambda: seen("reason") >= told, "both to be logged")
            assert seen("reason") <= {*told, left}
            # The address is that of a connection, which may be gone when its end is heard of.
            assert seen("address") <= {"127.0.0.1"}
            # Who tries again and again does not fill the log.
            before = daemon.failed()
            wait(lambda: daemon.failed() > before + 50, "more of them")
            assert 2 * len(daemon.lines("a producer's handshake failed")) < daemon.failed()


def test_what_is_refused_counts_for_its_producer_and_for_no_other(daemon: Guarded) -> None:
    lost = metrics(daemon)["events_lost_total"]
    with Dealer(daemon.acked, daemon.own.public, LIMITED["topics"]) as limited:
        limited.send(event(["a"], topic="other", sender="own/1", n=1))
        assert limited.answer() is not None
    assert tally(daemon, "own/1")["refused"] == 1
    with dealer(daemon, KEY) as known:
        assert known.ask(event(["a"], sender="victim/1", n=1)) == "ok"
    with dealer(daemon, LIMITED["runs"]) as mallory:
        for frame in (event(["a"], sender="victim/1", n=50), event(["a"], sender="victim/1", n=60, ttl=-1)):
            assert mallory.ask(frame) in ("not_authorized", "bad_ttl")
        assert mallory.ask(event(["a"], sender="chat-api/9", n=3, ttl=-1)) == "bad_ttl"
    assert (tally(daemon, "victim/1")["refused"], tally(daemon, "victim/1")["highest"]) == (0, 1)
    assert tally(daemon, "chat-api/9")["refused"] == 1
    with Producer(daemon.pubsub, name="pub", curve=Curve(LIMITED["topics"], daemon.own.public)) as pub:
        pub.publish("x", to=["a"], topic="other")
        wait(lambda: tally(daemon, pub.sender).get("lost") == 1, "it to be counted as lost")
    assert metrics(daemon)["events_lost_total"] == lost + 1
    assert any(line.get("producer") == "topics" for line in daemon.lines("message refused"))


def test_what_a_producer_whose_key_was_taken_back_says_of_itself_counts_for_nothing(unstarted: Guarded) -> None:
    unstarted.authorize("p", KEY.public)
    with unstarted, dealer(unstarted, KEY) as producer:
        assert producer.ask(event(["a"], sender="p/1", n=1)) == "ok"
        (unstarted.folder / "p.toml").unlink()
        reload(unstarted)
        assert producer.ask(event(["a"], sender="p/1", n=2)) == "not_authorized"
        assert tally(unstarted, "p/1")["refused"] == 0
        assert unstarted.lines("message refused")[0]["address"] == "127.0.0.1"


@pytest.mark.parametrize("content", ["not = [toml", 'public_key = "{public}"\nsecret_key = "{secret}"\n'])
def test_what_is_said_of_a_producers_file_keeps_the_secret_on_its_machine(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.toml").write_text(content.replace("{public}", KEY.public).replace("{secret}", KEY.secret))
    _, (mistake,) = read_authorized(tmp_path, canonical)
    assert 'public_key = "..."' in mistake
    assert "never the file that it makes" in mistake
    assert KEY.secret not in mistake


# Limits -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "frames", "outcome"),
    [
        ("topics", [event(["a"], topic="chat.1")], "ok"),
        ("topics", [event("*", topic="news")], "ok"),
        ("topics", [b"news", event("*")], "ok"),
        ("topics", [event(["a"], topic="chat")], "not_authorized"),
        ("topics", [event(["a"], topic="xchat.1")], "not_authorized"),
        ("topics", [event(["a"])], "not_authorized"),
        ("topics", [event(["a"], topic="news"), event(["a"], topic="other")], "not_authorized"),
        ("topics", [b"other", event(["a"], topic="news"), event(["a"])], "not_authorized"),
        ("topics", [group("g", "mallory")], "not_authorized"),
        ("topics", [b'{"topic":"other","known":false}'], "not_authorized"),
        ("topics", [b'{"topic":"news","known":true}'], "ok"),
        ("recipients", [event(["alice", "team-1"])], "ok"),
        ("recipients", [event(["alice", "bob"])], "not_authorized"),
        ("recipients", [event(["ALICE"])], "not_authorized"),
        ("recipients", [event("*")], "not_authorized"),
        ("recipients", [event("*", topic="alice")], "not_authorized"),
        ("recipients", [event(["alice"], group="g")], "not_authorized"),
        ("recipients", [event(None, group="g")], "not_authorized"),
        ("recipients", [group("team-x", "alice")], "not_authorized"),
        ("recipients", [event(["bob"], ttl=5)], "not_authorized"),
        ("private", [event(["anybody"])], "ok"),
        ("private", [event("*")], "not_authorized"),
        ("private", [event("*", topic="t")], "not_authorized"),
        ("runs", [event(["a"], sender="chat-api/1", n=1)], "ok"),
        ("runs", [event(["a"], sender="billing/1", n=1)], "not_authorized"),
        ("runs", [event(["a"])], "not_authorized"),
    ],
)
def test_a_producer_with_limits_publishes_inside_of_them_only(
    daemon: Guarded, name: str, frames: Sequence[bytes], outcome: str
) -> None:
    with dealer(daemon, LIMITED[name]) as producer:
        assert producer.ask(*frames) == outcome


def test_limits_hold_on_pubsub_too(daemon: Guarded) -> None:
    curve = Curve(LIMITED["recipients"], daemon.own.public)
    with connect(daemon, "alice") as alice, connect(daemon, "bob") as bob, Producer(daemon.pubsub, name="p", curve=curve) as pub:
        alice_before = len(alice.data)
        pub.publish("1", to=["bob"])
        pub.publish("2", to=["alice", "bob"])
        pub.publish("3", to="*")
        pub.publish("last", to=["alice"])
        wait(lambda: "last" in alice.data, "the one that is allowed", [alice, bob])
        assert alice.data[alice_before:] == ["last"]
        assert bob.data == []


# ipc, and routing ids ---------------------------------------------------------------------------------------------------------

CONNECT = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    sys.exit(7)
"""


def test_an_ipc_socket_is_for_the_daemons_user_and_group_only() -> None:
    daemon = RunningDaemon()
    path = daemon.directory / "acked.ipc"
    daemon.acked_addresses = [f"ipc://{path}"]
    with daemon:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with Dealer(daemon.acked) as own:
            assert own.ask(event(["a"])) == "ok"
        if os.getuid() == 0:
            daemon.directory.chmod(0o755)  # so that it is the socket's own mode that keeps them out
            assert subprocess.run([sys.executable, "-c", CONNECT, str(path)], check=False).returncode == 7


def test_beside_curve_an_ipc_socket_is_the_file_systems_to_guard_and_lets_nobody_else_in(unstarted: Guarded) -> None:
    daemon = unstarted
    daemon.acked_addresses.append(f"ipc://{daemon.directory}/acked.ipc")
    daemon.authorize("known", KEY.public)
    with daemon:
        with Dealer(daemon.acked_addresses[1]) as local, dealer(daemon, KEY) as remote:
            assert local.ask(event("*")) == "ok"
            assert remote.ask(event("*")) == "ok"
        before = daemon.failed()
        with Dealer(daemon.acked) as stranger:
            stranger.send(event("*"))
            wait(lambda: daemon.failed() > before, "it to be turned away")


def test_a_squatter_on_a_routing_id_stops_nobodys_answers_and_is_nobody_else(daemon: Guarded) -> None:
    with (
        dealer(daemon, LIMITED["topics"], routing_id=b"chat-api") as squatter,
        AckedProducer(daemon.acked, name="chat-api", curve=Curve(KEY, daemon.own.public)) as honest,
    ):
        for _ in range(20):
            assert squatter.ask(event(["a"])) == "not_authorized"
            assert honest.publish("x", to=["a"])
