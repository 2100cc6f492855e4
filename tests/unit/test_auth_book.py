"""What is remembered of proofs, on clocks that the tests turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from time import time as wall_clock
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_daemon.auth_book import COMPACT, SESSIONS_EACH, SKEW, Book, Clock, nonce_digest
from sse_daemon.config_tables import AuthConfig
from sse_daemon.nonce_file import NonceFile
from sse_daemon.signature import LIFETIME

NOW = 1_700_000_000


class Time:
    """wall can be set to anything; elapsed only goes on."""

    def __init__(self) -> None:
        self.wall, self.elapsed = float(NOW), 500.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


def book(time: Time, file: NonceFile | None = None, **limits: Any) -> Book:
    return Book(file, AuthConfig(**limits), lambda: time.wall, lambda: time.elapsed)


def digest(number: int) -> bytes:
    return nonce_digest("key", str(number))


async def spend(book: Book, number: int, created: float = NOW, lasts: int = 60) -> str | None:
    verdict = await book.spend(digest(number), int(created), int(created) + lasts)
    return verdict.code


async def test_a_nonce_is_good_once() -> None:
    it = book(Time())
    assert await spend(it, 1) is None
    assert await spend(it, 1) == "replayed"
    assert await spend(it, 2) is None


async def test_looking_uses_nothing_up() -> None:
    it = book(Time())
    for _ in range(2):
        assert (await it.look(digest(1), NOW, NOW + 60)).code is None
    assert await spend(it, 1) is None
    assert (await it.look(digest(1), NOW, NOW + 60)).code == "replayed"


@pytest.mark.parametrize("ahead", [0, SKEW])
async def test_it_is_remembered_until_nobody_would_accept_it(tmp_path: Path, ahead: int) -> None:
    """Counted from when it was signed, and not from when it came: it may be of the future."""
    time = Time()
    file = NonceFile(tmp_path, "boot")
    it = book(time, file)
    try:
        time.pass_(1)
        created = NOW + 1 + ahead
        assert await spend(it, 1, created) is None
        codes = []
        for _ in range(LIFETIME + 3 * SKEW):
            time.pass_(1)
            codes.append(await spend(it, 1, created))
        kinds = [code for code, _ in itertools.groupby(codes)]
        assert kinds == ["replayed", "sign_again"]
        assert codes.count("replayed") == LIFETIME + SKEW + ahead
    finally:
        it.close()


async def test_a_full_table_forgets_nobody() -> None:
    time = Time()
    it = book(time, max_nonces=2)
    assert [await spend(it, n) for n in range(3)] == [None, None, "nonces_full"]
    assert await spend(it, 0) == "replayed"
    time.pass_(LIFETIME + SKEW)
    assert await spend(it, 3, time.wall) == "nonces_full"
    time.pass_(0.5)
    assert await spend(it, 3, time.wall) is None
    assert it.nonces == 1


async def test_what_was_set_back_is_not_young_again(expect_log: Callable[..., Any]) -> None:
    expect_log("sse_daemon.auth", "the clock was set back")
    time = Time()
    it = book(time)
    assert await spend(it, 1) is None
    time.pass_(3600)
    assert await spend(it, 2, time.wall) is None
    assert it.nonces == 1, "the first is long forgotten"
    time.wall -= 3600
    assert await spend(it, 1) == "sign_again"
    verdict = await it.look(digest(3), int(time.wall), int(time.wall) + 60)
    assert verdict.code == "sign_again"
    # Whoever then signs by the time that is told is served.
    assert await spend(it, 3, verdict.now) is None
    time.pass_(3700)
    assert await spend(it, 4, time.wall) == "sign_again"
    time.wall += 3600
    assert await spend(it, 4, time.wall) is None


async def test_a_clock_that_is_ahead_for_a_while_lets_nothing_in_twice(expect_log: Callable[..., Any]) -> None:
    expect_log("sse_daemon.auth", "the clock was set back")
    time = Time()
    it = book(time)
    assert await spend(it, 1) is None
    time.wall += 3600
    assert await spend(it, 2, time.wall) is None
    time.wall -= 3600
    assert await spend(it, 1) == "sign_again"
    assert await spend(it, 2, NOW + 3600) == "replayed"


async def test_the_hour_survives_a_restart(tmp_path: Path, expect_log: Callable[..., Any]) -> None:
    expect_log("sse_daemon.auth", "the clock was set back")
    time = Time()
    it = book(time, NonceFile(tmp_path, "boot"))
    time.wall += 3600
    assert await spend(it, 1, time.wall) is None
    it.close()
    time.wall -= 3600
    again = book(time, NonceFile(tmp_path, "boot"))
    try:
        assert await spend(again, 2) == "sign_again"
        assert await spend(again, 1, NOW + 3600) == "replayed"
    finally:
        again.close()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.floats(-100, 100), max_size=30))
def test_our_clock_never_goes_back(expect_log: Callable[..., Any], steps: list[float]) -> None:
    expect_log("sse_daemon.auth", "the clock was set back", required=False)
    time = Time()
    clock = Clock(lambda: time.wall, lambda: time.elapsed)
    before = clock.now()
    for step in steps:
        time.wall += step
        time.elapsed += 0.01
        assert clock.now() > before
        before = clock.now()
        assert before >= time.wall


async def test_only_a_complete_memory_accepts_what_was_signed_before_the_start(tmp_path: Path) -> None:
    time = Time()
    time.pass_(0.5)
    assert book(time).begins == NOW + 1
    first = book(time, NonceFile(tmp_path, "boot"))
    assert first.begins == NOW + 1
    first.close()
    second = book(time, NonceFile(tmp_path, "boot"))
    assert second.begins == 0
    second.close()
    third = book(time, NonceFile(tmp_path, "another"))
    # The one before accepted what was signed by a clock that was ahead of ours.
    assert third.begins == NOW + 1 + SKEW
    third.close()


async def test_without_a_file_nobody_signs_for_later() -> None:
    time = Time()
    it = book(time)
    assert await spend(it, 1, NOW + 1) == "sign_again"
    time.pass_(1)
    assert await spend(it, 1, NOW + 1) is None


async def test_it_is_ready_when_signatures_made_now_are_good() -> None:
    it = Book(None, AuthConfig(), wall_clock, monotonic)
    await it.ready()
    assert wall_clock() >= it.begins
    assert await spend(it, 1, int(wall_clock())) is None


@pytest.mark.parametrize("content", [None, b"", b"nothing of ours", b"sse-daemon nonces 1 before\n"])
async def test_a_start_that_waits_for_a_damaged_file_says_so(tmp_path: Path, content: bytes | None, expect_log: Any) -> None:
    if content is not None:
        (tmp_path / "nonces").write_bytes(content)
    file = NonceFile(tmp_path, "boot")
    it = Book(file, AuthConfig(), wall_clock, monotonic)
    if content is not None and not content.endswith(b"\n"):
        expect_log("sse_daemon.auth", "unreadable")
    it.begins = 0  # the wait itself is tested above
    await it.ready()
    it.close()


async def test_the_file_does_not_grow_with_what_is_forgotten(tmp_path: Path) -> None:
    time = Time()
    file = NonceFile(tmp_path, "boot")
    it = book(time, file)
    try:
        time.pass_(1)
        most = 0
        for number in range(3 * COMPACT):
            assert await spend(it, number, time.wall, lasts=1) is None
            most = max(most, file.records)
            if number % 100 == 0:
                time.pass_(10)
        assert most <= 2 * 200 + COMPACT
        assert await spend(it, 3 * COMPACT - 1, time.wall, lasts=1) == "replayed"
    finally:
        it.close()


async def test_a_nonce_that_cannot_be_written_is_not_accepted_and_not_forgotten(
    tmp_path: Path, expect_log: Callable[..., Any]
) -> None:
    expect_log("sse_daemon.auth", "could not be written")
    time = Time()
    file = NonceFile(tmp_path, "boot")
    it = book(time, file)
    time.pass_(1)
    file.close()
    assert await spend(it, 1, time.wall) == "nonces_failed"
    assert await spend(it, 1, time.wall) == "replayed"


# Sessions


async def test_a_session_is_its_tokens() -> None:
    time = Time()
    it = book(time)
    code, token, seconds = await it.open_session("alice", None)
    assert code is None
    assert seconds == 900.0 and len(token) == 43
    assert await it.session(token) == ("alice", 900.0)
    assert await it.session(token[:-1] + ("a" if token[-1] != "a" else "b")) is None
    time.pass_(899)
    assert await it.session(token) == ("alice", 1.0)
    time.wall -= 10_000
    time.elapsed += 1
    assert await it.session(token) is None


async def test_tokens_are_not_kept() -> None:
    it = book(Time())
    opened = await it.open_session("alice", "192.0.2.1")
    assert opened.token and opened.token not in repr(vars(it))


async def test_the_oldest_of_too_many_of_one_participant_ends() -> None:
    it = book(Time())
    tokens = [(await it.open_session("alice", None)).token for _ in range(SESSIONS_EACH + 1)]
    other = (await it.open_session("bob", None)).token
    assert [await it.session(token) is not None for token in tokens] == [False] + [True] * SESSIONS_EACH
    assert await it.session(other) is not None
    assert it.sessions == SESSIONS_EACH + 1


async def test_the_table_is_bounded_and_has_room_again() -> None:
    time = Time()
    it = book(time, max_sessions=2)
    assert [(await it.open_session(name, None)).code for name in "abc"] == [None, None, "sessions_full"]
    time.pass_(900)
    assert (await it.open_session("c", None)).code is None
    assert it.sessions == 1


async def test_one_address_does_not_take_all_sessions_with_ever_new_keys() -> None:
    time = Time()
    it = book(time, max_sessions_address=2)
    opened = [(await it.open_session(f"key {number}", "192.0.2.1")).code for number in range(4)]
    assert opened == [None, None, "too_many_sessions", "too_many_sessions"]
    assert (await it.open_session("key 0", "192.0.2.2")).code is None
    # From a shared one come many.
    assert {(await it.open_session(f"key {number}", None)).code for number in range(20)} == {None}
    time.pass_(900)
    assert it.sessions == 0
    assert (await it.open_session("key 0", "192.0.2.1")).code is None


async def test_what_an_address_has_is_counted_right_however_sessions_end() -> None:
    time = Time()
    it = book(time, max_sessions_address=SESSIONS_EACH + 1)
    for _ in range(3):
        # The oldest goes, and there is room for another participant; one is revoked, and there is room for all of its own.
        for _ in range(SESSIONS_EACH):
            assert (await it.open_session("alice", "192.0.2.1")).code is None
        assert (await it.open_session("alice", "192.0.2.1")).code is None
        assert (await it.open_session("bob", "192.0.2.1")).code is None
        assert (await it.open_session("bob", "192.0.2.1")).code == "too_many_sessions"
        assert it.revoke("alice") == SESSIONS_EACH and it.revoke("bob") == 1
    assert not it._from
    await it.open_session("alice", "192.0.2.1", 1.0)
    time.pass_(1)
    assert it.sessions == 0 and not it._from


async def test_no_limit_for_an_address_is_none() -> None:
    it = book(Time(), max_sessions_address=0)
    assert {(await it.open_session(f"key {number}", "192.0.2.1")).code for number in range(50)} == {None}


async def test_a_participants_sessions_can_be_ended() -> None:
    time = Time()
    it = book(time)
    tokens = [(await it.open_session(name, None)).token for name in ("alice", "alice", "bob")]
    assert it.revoke("alice") == 2
    assert it.revoke("alice") == 0
    assert [await it.session(token) is not None for token in tokens] == [False, False, True]
    time.pass_(901)
    assert it.sessions == 0
