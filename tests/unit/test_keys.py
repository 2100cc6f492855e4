"""Which reader of keys a configuration comes to, what it remembers, and resolvers of digests from an installed package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from sse_daemon import keys, participant
from sse_daemon.config_tables import AuthConfig, Config, ParticipantsConfig
from sse_daemon.ed25519 import spellings
from sse_daemon.envelope import Bounds, parse
from sse_daemon.errors import ConfigError, DigestKey, InvalidParticipant, Refusal
from sse_daemon.event import Draft, Group
from sse_daemon.keys import reader
from tests.conftest import LogWatch

KEY = bytes(SigningKey(bytes(32)).verify_key)
OTHER = bytes(SigningKey(b"o" * 32).verify_key)
SPELLED = spellings(KEY)
DIGEST = "E" + SPELLED.cesr_d[1:]

PACKAGE = """
asked = []
known = {}

def keri(text):
    asked.append(text)
    found = known[text]
    if isinstance(found, Exception):
        raise found
    return found

no_function = 1
"""
ENTRY_POINTS = "[sse_daemon.key_resolvers]\nkeri = resolving:keri\nvalue = resolving:no_function\nbroken = resolving:absent\n"


def config(key_resolver: str | None = None, opaque: bool = False) -> Config:
    participants = ParticipantsConfig(keys="opaque" if opaque else "ed25519")
    return Config(auth=AuthConfig(mode="claim", key_resolver=key_resolver), participants=participants)


class Installed:
    """An installed package with a resolver that answers from `known`."""

    asked: list[str]
    known: dict[str, object]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Installed]]:
    (tmp_path / "resolving.py").write_text(PACKAGE)
    about = tmp_path / "resolving-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: resolving\nVersion: 1\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("resolving")
    del sys.modules["resolving"]


def digest_refused(read: Callable[[str], str]) -> str:
    with pytest.raises(DigestKey) as caught:
        read(DIGEST)
    assert DIGEST not in str(caught.value)
    return str(caught.value)


# Without a resolver -----------------------------------------------------------------------------------------------------------


def test_opaque_keys_are_read_as_ever_and_at_no_cost() -> None:
    assert reader(config(opaque=True)) is participant.canonical


def test_ed25519_keys_have_one_form_and_nothing_else_is_a_key() -> None:
    read = reader(config())
    assert {read(text) for text in SPELLED} == {SPELLED.base64url}
    for text in ("alice", "*", ""):
        with pytest.raises(InvalidParticipant):
            read(text)
    assert "key_resolver" in digest_refused(read)


def test_each_reader_remembers_for_itself_what_was_a_key_and_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str] = []

    def counting(text: str) -> str:
        checks.append(text)
        if text == "none":
            raise InvalidParticipant("no key")
        return text

    monkeypatch.setattr(keys.ed25519, "canonical", counting)
    monkeypatch.setattr(keys, "KNOWN", 2)
    one, other = reader(config()), reader(config())
    for text in ("a", "a", "b", "a", "c", "b"):  # b was unused longest when c came
        one(text)
    assert checks == ["a", "b", "c", "b"]
    other("b")
    assert checks[4:] == ["b"], "what strangers ask of one reader leaves the other alone"
    for _ in range(2):
        with pytest.raises(InvalidParticipant):
            one("none")
    assert checks[5:] == ["none", "none"], "refusals would be a table that strangers fill"


def test_recipients_and_members_go_through_it() -> None:
    bounds = Bounds(read_key=reader(config()))
    to = ", ".join(f'"{text}"' for text in SPELLED)
    (event,) = parse([b'{"to":[%s]}' % to.encode()], bounds)
    assert isinstance(event, Draft) and event.channels == (f"participant/{SPELLED.base64url}",)
    (group,) = parse([b'{"group":"g","members":[%s]}' % to.encode()], bounds)
    assert isinstance(group, Group) and group.members == (SPELLED.base64url,)


@pytest.mark.parametrize(
    ("to", "code"),
    [
        (f'"{DIGEST}"', "digest_key"),
        (f'"{SPELLED.hex}","{DIGEST}"', "digest_key"),
        ('"alice"', "bad_participant"),
        (f'"{"00" * 32}"', "bad_participant"),
        ("1", "bad_participant"),
        ("null", "bad_participant"),
        (f'["{SPELLED.hex}"]', "bad_participant"),
        ('{"a":1},"b"', "bad_participant"),
        (f"[{','.join(['0'] * 44)}]", "bad_participant"),
    ],
)
def test_what_is_no_key_is_a_refusal_with_its_code(to: str, code: str, installed: type[Installed]) -> None:
    for resolver in (None, "keri"):
        installed.known[DIGEST] = None
        bounds = Bounds(read_key=reader(config(resolver)))
        for frame in (f'{{"to":[{to}]}}', f'{{"group":"g","members":[{to}]}}'):
            with pytest.raises(Refusal) as caught:
                parse([frame.encode()], bounds)
            assert (caught.value.code, caught.value.index) == (code, 0)


# With one ---------------------------------------------------------------------------------------------------------------------


def test_a_digest_is_the_participant_whose_key_the_resolver_gives_now(installed: type[Installed]) -> None:
    read = reader(config("keri"))
    installed.known[DIGEST] = KEY
    assert read(DIGEST) == SPELLED.base64url
    installed.known[DIGEST] = OTHER
    assert read(DIGEST) == spellings(OTHER).base64url, "rotated"
    assert installed.asked == [DIGEST, DIGEST]


def test_it_is_asked_about_digests_only(installed: type[Installed]) -> None:
    read = reader(config("keri"))
    assert {read(text) for text in SPELLED} == {SPELLED.base64url}
    for text in ("alice", "E" + "é" * 43, "E" + SPELLED.cesr_d[1:-1] + "=", "EQ" + SPELLED.cesr_d[2:]):
        with pytest.raises(InvalidParticipant) as caught:
            read(text)
        assert caught.value.code == "bad_participant"
    assert installed.asked == []


def test_what_it_does_not_know_is_refused(installed: type[Installed]) -> None:
    installed.known[DIGEST] = None
    assert "not known" in digest_refused(reader(config("keri")))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (RuntimeError(DIGEST), "the key resolver failed"),
        (SPELLED.base64url, "something else than 32 bytes"),
        (KEY[:31], "something else than 32 bytes"),
        (bytearray(KEY), "something else than 32 bytes"),
        (bytes(32), "no Ed25519 key"),
    ],
    ids=["raises", "text", "short", "mutable", "weak"],
)
def test_whatever_it_does_wrong_refuses_this_one_and_is_logged(
    answer: object, line: str, installed: type[Installed], expect_log: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_complain", keys.Sometimes(keys.logger("keys"), lambda: 0.0))
    installed.known[DIGEST] = answer
    read = reader(config("keri"))
    expected = expect_log("sse_daemon.keys", line)
    digest_refused(read)
    digest_refused(read)
    assert len(expected.seen) == 1
    assert DIGEST not in str(expected.seen)
    assert read(SPELLED.hex) == SPELLED.base64url


# Mistakes ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "mistake"),
    [
        (config("absent"), "known are: broken, keri, value"),
        (config("value"), "is no function"),
        (config("broken"), "cannot be loaded"),
        (config("keri", opaque=True), '"opaque"; "ed25519" there'),
    ],
)
def test_a_resolver_that_is_none_is_a_mistake_of_the_configuration(
    wrong: Config, mistake: str, installed: type[Installed]
) -> None:
    with pytest.raises(ConfigError) as caught:
        reader(wrong)
    (line,) = caught.value.mistakes
    assert line.startswith("[auth] key_resolver: ") and mistake in line


def test_without_any_installed_it_says_so() -> None:
    with pytest.raises(ConfigError, match="known are: none"):
        reader(config("keri"))
