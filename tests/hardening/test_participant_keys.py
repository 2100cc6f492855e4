"""Two spellings of one key are one participant, a neighbour's is another: over a million deliveries, and at every door.

The check of the million is tried on daemons that are broken on purpose: what it cannot catch, it does not prove.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from nacl.signing import SigningKey

from sse_daemon import participant
from sse_daemon.auth import claimed_key
from sse_daemon.config_tables import Config, ParticipantsConfig
from sse_daemon.ed25519 import spellings
from sse_daemon.envelope import Bounds, parse, resolve
from sse_daemon.event import Group
from sse_daemon.keys import reader
from sse_daemon.participant import Canonical
from sse_daemon.window import Channel, Entry, Window
from tests.integration.client import Client as Browser
from tests.integration.client import Publisher, envelope
from tests.integration.daemon import RunningDaemon, command, environ
from tests.unit.test_hub import Client, Rig

KEYS = 100
DELIVERIES = 1_000_000
FEW = 60_000
"""Deliveries in which a daemon that is broken on purpose has to be caught."""
BATCH = 50
"""Events published together, each in a message of its own."""
NUMBER = re.compile(rb"\ndata: (\d+)\n")

Break = Callable[[Rig], None]

KEYRING = [bytes(SigningKey(bytes([i]) * 32).verify_key) for i in range(KEYS)]
SPELLED = [spellings(key) for key in KEYRING]
ED25519 = Config(participants=ParticipantsConfig(keys="ed25519"))


class House:
    """A hundred participants; what each is to get, by the numbers of events, which are their data."""

    def __init__(self, chance: random.Random, rig: Rig, read: Canonical) -> None:
        self._chance = chance
        self._rig = rig
        self._read = read
        self._bounds = Bounds(read_key=read)
        self._groups: dict[str, Sequence[str]] = {}
        self._members: dict[str, set[int]] = {}
        self._count = 0
        self.due: list[list[bytes]] = [[] for _ in KEYRING]
        self.streams: list[tuple[int, int, Client]] = []
        """Whose, the number of the first event that it can get, and its client."""

    async def connect(self, who: int) -> None:
        """A stream of a participant, by any of its spellings, from anywhere in the log: event n has the position n + 1."""
        text = self._chance.choice(SPELLED[who])
        header, query = self._chance.choice((([], [text]), ([text], []), ([text], [SPELLED[who - 1].hex])))  # the header wins
        key = claimed_key(SimpleNamespace(header_keys=header, query_keys=query), self._read)
        assert key is not None
        after = self._chance.choice((0, self._chance.randint(0, self._count)))
        self.streams.append((who, after, await self._rig.connect(key, after)))

    async def publish(self) -> None:
        """A batch of events, each for about half of the participants, by any spellings, some through a group."""
        records = []
        for _ in range(BATCH):
            frame, whom = self._event() if self._count % 20 else self._group()
            parsed = parse([frame], self._bounds)
            record = resolve(parsed, self._groups, self._bounds, 0.0)
            self._groups |= {item.name: item.members for item in record if isinstance(item, Group)}
            records.append(record)
            for who in whom:
                self.due[who].append(b"%d" % self._count)
            self._count += 1
        await self._rig.backend.append(records)

    def _event(self) -> tuple[bytes, set[int]]:
        whom = self._some()
        group = self._chance.choice([None, *self._members])
        header = f'"group":"{group}",' if group else ""
        frame = f'{{{header}"to":[{self._named(whom)}]}}\n{self._count}'
        return frame.encode(), whom | (self._members[group] if group else set())

    def _group(self) -> tuple[bytes, set[int]]:
        name = f"g{self._chance.randrange(3)}"
        self._members[name] = self._some(5)
        return f'{{"group":"{name}","members":[{self._named(self._members[name])}]}}'.encode(), set()

    def _some(self, most: int = 95) -> set[int]:
        return set(self._chance.sample(range(KEYS), self._chance.randint(1, most)))

    def _named(self, whom: set[int]) -> str:
        """Each by one spelling, some by two."""
        texts = [self._chance.choice(SPELLED[who]) for who in whom]
        texts += [self._chance.choice(SPELLED[who]) for who in whom if self._chance.random() < 0.05]
        return ",".join(f'"{text}"' for text in texts)

    def check(self) -> int:
        """Every stream has all that is due to its participant after its cursor, in order, and not one event of anybody else.

        Returns how many deliveries there were.
        """
        deliveries = 0
        for who, first, client in self.streams:
            got = NUMBER.findall(client.bytes)
            deliveries += len(got)
            due = [number for number in self.due[who] if int(number) >= first]
            strange = set(got) - set(due)
            assert not strange, f"{len(strange)} events of others"
            assert got == due, "not what is due, or not in order"
        return deliveries


async def live_through(deliveries: int, read: Canonical, broken: Break | None = None) -> int:
    """Half of the deliveries to streams that are open all the time, the rest to such as come later with a cursor."""
    chance = random.Random(42)
    # A small window: who comes back, and who reads slowly, is served by the log in part.
    rig = await Rig(256 * 1024, 1 << 30).start()
    house = House(chance, rig, read)
    try:
        for who in range(KEYS):
            await house.connect(who)
            await house.connect(who)
        if broken is not None:
            broken(rig)
        while sum(map(len, house.due)) * 4 < deliveries * 1.01:
            await house.publish()
            if chance.random() < 0.2:
                await rig.settle()
        for _ in range(3):  # half of them from the beginning, the others from anywhere: in all about two for each key
            for who in range(KEYS):
                await house.connect(who)
        await rig.settle()
        return house.check()
    finally:
        await rig.stop()


def test_a_million_deliveries_reach_the_key_they_name_in_every_spelling_and_no_neighbour() -> None:
    assert asyncio.run(live_through(DELIVERIES, reader(ED25519))) >= DELIVERIES


# The check is worth something -------------------------------------------------------------------------------------------------


def caught(read: Canonical, broken: Break | None = None) -> str:
    with pytest.raises(AssertionError) as failed:
        asyncio.run(live_through(FEW, read, broken))
    return str(failed.value)


def test_a_reader_that_takes_neighbours_for_one_is_caught() -> None:
    """Compares the first character only: sixty-four neighbours, some of them one."""
    read = reader(ED25519)
    assert "events of others" in caught(lambda text: read(text)[:1])


def test_a_reader_that_takes_spellings_for_participants_is_caught() -> None:
    assert "not what is due" in caught(participant.canonical)


class Leaky(Window):
    """Gives one event too many once in a while: one of some other channel, behind those that were asked for."""

    chances = 0

    def read(self, channels: Sequence[Channel], after: int, through: int, limit: int) -> list[Entry]:
        found = super().read(channels, after, through, limit)
        after = found[-1][0] if found else after
        neighbours = [c for c in self.channels.values() if c not in channels and after < c.last <= through]
        Leaky.chances += bool(neighbours)
        if not neighbours or Leaky.chances % 100:
            return found
        return [*found, *neighbours[0].after(after, through, 1)]


def leak(rig: Rig) -> None:
    rig.hub.window.__class__ = Leaky


def test_a_filter_that_leaks_one_event_in_a_hundred_reads_is_caught() -> None:
    assert "events of others" in caught(reader(ED25519), leak)


def lose(rig: Rig) -> None:
    """From here on the first stream is on its neighbour's channel, too."""
    ours, theirs = rig.clients[0].stream, rig.clients[2].stream
    ours.channels = (*ours.channels, *theirs.channels)
    for channel in theirs.channels:
        channel.streams[ours] = None


def test_a_stream_on_a_neighbours_channel_is_caught() -> None:
    assert "events of others" in caught(reader(ED25519), lose)


# At every door of the daemon --------------------------------------------------------------------------------------------------

CONFIG = '[participants]\nkeys = "ed25519"\n[daemon]\nworkers = {workers}\n'
OURS, NEIGHBOURS = SPELLED[0], SPELLED[1]


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "workers"])
def daemon(request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    with RunningDaemon(CONFIG.format(workers=request.param)) as daemon:
        yield daemon


def test_every_spelling_opens_the_stream_of_its_key(daemon: RunningDaemon) -> None:
    with Publisher(daemon.acked) as publisher:
        browsers = [Browser(daemon.http_port) for _ in (*OURS, *OURS, *NEIGHBOURS)]
        targets = [("/events", ("X-Public-Key", text)) for text in OURS] + [
            (f"/events?public_key={text}", ("Accept", "*/*")) for text in (*OURS, *NEIGHBOURS)
        ]
        streams = [browser.get(target, header) for browser, (target, header) in zip(browsers, targets, strict=True)]
        assert {stream.status for stream in streams} == {200}
        for number, text in enumerate(OURS):
            publisher.event(f"ours {number}", to=[text])
            publisher.event(f"theirs {number}", to=[NEIGHBOURS[number]])
        end = publisher.event("end", to=[OURS.hex, NEIGHBOURS.cesr_b])
        for stream, who in zip(streams, [OURS] * 12 + [NEIGHBOURS] * 6, strict=True):
            messages = stream.until(end)
            word = "ours" if who is OURS else "theirs"
            assert f'"participant":"{who.base64url}"' in messages[0].data
            assert [m.data for m in messages if m.type == "message"] == [*(f"{word} {n}" for n in range(6)), "end"]
        for browser in browsers:
            browser.socket.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("alice", "bad_participant"),
        (OURS.base64url + "=", "bad_participant"),
        (OURS.hex[:32] + OURS.hex_upper[32:], "bad_participant"),
        ("01" + "00" * 31, "bad_participant"),
        ("E" + OURS.cesr_d[1:], "digest_key"),
    ],
)
def test_what_is_no_key_opens_nothing_and_receives_nothing(daemon: RunningDaemon, text: str, code: str) -> None:
    for target in ("/events", f"/events?public_key={text}"):
        headers = [] if "?" in target else [("X-Public-Key", text)]
        with Browser(daemon.http_port) as browser:
            response = browser.get(target, *headers)
            body = response.body()
            assert response.status == 400 and f'"error":"{code}"'.encode() in body
            assert text.encode() not in body
    for header in ({"to": [text]}, {"to": [OURS.hex, text]}, {"group": "g", "members": [text]}):
        with Publisher(daemon.acked) as publisher, pytest.raises(AssertionError, match=code):
            publisher.send(envelope("", **header))


def test_operators_may_use_any_spelling(daemon: RunningDaemon) -> None:
    def run(*arguments: str) -> str:
        done = command(*arguments, "--admin", str(daemon.admin))
        assert done.returncode == 0, done.stderr
        return done.stdout

    kicked = SPELLED[2]
    with Browser(daemon.http_port) as browser:
        stream = browser.get("/events", ("X-Public-Key", kicked.cesr_d))
        assert kicked.base64url in run("clients", "--participant", kicked.hex_upper, "--json")
        assert "No stream is open" in run("clients", "--participant", SPELLED[3].did_key)
        assert '"written": true' in run("inject", "--to", kicked.did_key, "--wait", "--json", "hello")
        assert "closed" in run("kick", "--participant", kicked.hex, "--for", "10m")
        assert [message.type for message in stream.rest()] == ["connected", "message", "bye"]
    assert kicked.base64url in run("clients", "--closed", "--participant", kicked.did_key, "--json")
    for spelled in kicked:
        with Browser(daemon.http_port) as browser:
            assert browser.get("/events", ("X-Public-Key", spelled)).status == 403


@pytest.mark.parametrize(
    "arguments", [("clients", "--participant"), ("kick", "--participant"), ("tail", "--to")], ids=lambda a: a[0]
)
def test_an_operator_who_names_no_key_is_told(daemon: RunningDaemon, arguments: tuple[str, str]) -> None:
    done = command(*arguments, "alice", "--admin", str(daemon.admin))
    assert done.returncode == 1 and "a key is 64 hexadecimal digits" in done.stderr


def test_the_log_and_the_pages_of_operators_have_one_form(daemon: RunningDaemon) -> None:
    with Publisher(daemon.acked) as publisher:
        publisher.send(b'{"group":"team","members":["%s","%s"]}' % (OURS.hex.encode(), NEIGHBOURS.did_key.encode()))
        publisher.event("kept", to=[OURS.cesr_b], type="kept", retain=True)
    for page in ("groups", "retained"):
        listed = command(page, "--json", "--admin", str(daemon.admin)).stdout
        assert OURS.base64url in listed and OURS.hex not in listed and OURS.cesr_b not in listed


def test_a_resolver_that_is_not_installed_keeps_the_daemon_from_starting() -> None:
    done = command("check-config", "--dev", SSE_DAEMON_PARTICIPANTS_KEYS="ed25519", SSE_DAEMON_AUTH_KEY_RESOLVER="absent")
    assert done.returncode == 2 and "[auth] key_resolver: 0 installed packages" in done.stderr


RESOLVER = f"""
def key_of(text):
    return bytes.fromhex("{OURS.hex}") if text == "E{OURS.cesr_d[1:]}" else None
"""


def test_an_installed_resolver_answers_for_digests_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "resolving.py").write_text(RESOLVER)
    about = tmp_path / "resolving-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: resolving\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[sse_daemon.key_resolvers]\nkeri = resolving:key_of\n")
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{environ({})['PYTHONPATH']}", "SSE_DAEMON_AUTH_KEY_RESOLVER": "keri"}
    known, unknown = (code + OURS.cesr_d[1:] for code in "EF")
    with ExitStack() as stack:
        daemon = stack.enter_context(RunningDaemon(CONFIG.format(workers=2), env=env))
        publisher = stack.enter_context(Publisher(daemon.acked))
        one, other, third = (stack.enter_context(Browser(daemon.http_port)) for _ in range(3))
        streams = [one.get("/events", ("X-Public-Key", known)), other.get("/events", ("X-Public-Key", OURS.hex))]
        publisher.event("to the digest", to=[known])
        end = publisher.event("to the key", to=[OURS.did_key])
        for stream in streams:
            assert [m.data for m in stream.until(end) if m.type == "message"] == ["to the digest", "to the key"]
        assert third.get("/events", ("X-Public-Key", unknown)).json()["error"] == "digest_key"
        with pytest.raises(AssertionError, match="digest_key"):
            publisher.event("", to=[unknown])
