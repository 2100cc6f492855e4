"""Keys that cost nothing: whoever makes up thousands of them is still one address, and the others have their room."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.hardening.signing import ALICE, BOB, Key, Visitor, code
from tests.hardening.tokens import bearer, config, pem, token
from tests.integration.client import Response
from tests.integration.daemon import RunningDaemon

DOORS = True
ALONE = "[http]\nshared_addresses = []\n"
FRESH = [Key.of(number) for number in range(10, 40)]
HERE, ELSEWHERE = "127.0.0.2", "127.0.0.3"


def place(response: Response) -> str:
    """What becomes of a stream: "connected", or "overload" however that is said."""
    if response.status != 200:
        assert code(response) == (503, "overloaded")
        return "overload"
    (first,) = response.next()
    assert first.type == "connected" or '"reason":"overload"' in first.data
    return "connected" if first.type == "connected" else "overload"


def test_one_address_has_so_many_streams_whatever_keys_it_makes_up(door: str) -> None:
    settings = ALONE + "[streams]\nmax_per_address = 3\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert Counter(place(visitor.sign(key, source=HERE)) for key in FRESH) == {"connected": 3, "overload": len(FRESH) - 3}
        assert place(visitor.sign(ALICE, source=ELSEWHERE)) == "connected"
        assert daemon.ask("stats")["metrics"]["streams"] == 4


def test_one_address_has_one_pace_whatever_keys_it_makes_up(door: str) -> None:
    settings = ALONE + "[streams]\nopen_rate = 0.3\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert [place(visitor.sign(key, source=HERE)) for key in FRESH].count("overload") > 20
        assert place(visitor.sign(ALICE, source=ELSEWHERE)) == "connected"


def test_one_participant_has_one_pace_wherever_it_comes_from() -> None:
    settings = ALONE + "[streams]\nopen_rate = 0.3\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon) as visitor:
        assert [place(visitor.sign(ALICE, source=f"127.0.1.{n}")) for n in range(1, 31)].count("overload") > 20
        assert place(visitor.sign(BOB, source="127.0.1.1")) == "connected"


def test_behind_a_shared_address_are_many_keys(door: str) -> None:
    settings = "[streams]\nmax_per_address = 1\nopen_rate = 0.3\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert {place(visitor.sign(key, source=HERE)) for key in FRESH} == {"connected"}


def test_whom_an_identity_provider_names_has_room_of_its_own(door: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(pem())
    settings = config(tmp_path / "key", ALONE + "[streams]\nmax_per_address = 1\nopen_rate = 0.3\n")
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        got = [place(visitor.ask("/events", bearer(token(sub=f"user-{n}")), source=HERE)) for n in range(10)]
        assert got == ["connected"] * 10


FEW = "max_sessions_address = 3\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_one_address_does_not_take_all_sessions(workers: int) -> None:
    settings = f"[auth]\n{FEW}{ALONE}[daemon]\nworkers = {workers}\n"
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon) as visitor:
        answers = [visitor.sign(key, "/session", method="POST", source=HERE) for key in FRESH[:10]]
        assert [code(answer) for answer in answers] == [(200, "")] * 3 + [(429, "too_many_sessions")] * 7
        assert int(answers[-1].header("Retry-After") or 0) >= 1
        assert visitor.sign(ALICE, "/session", method="POST", source=ELSEWHERE).status == 200
        assert daemon.ask("stats")["metrics"]["sessions"] == 4


def test_one_address_does_not_take_all_sessions_with_tokens_either(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(pem())
    with RunningDaemon(config(tmp_path / "key", FEW + ALONE), dev=False) as daemon, Visitor(daemon) as visitor:

        def opened(name: str, source: str) -> tuple[int, str]:
            return code(visitor.ask("/session", bearer(token(sub=name)), method="POST", source=source))

        assert [opened(f"user-{n}", HERE) for n in range(5)] == [(200, "")] * 3 + [(429, "too_many_sessions")] * 2
        assert opened("alice", ELSEWHERE) == (200, "")


def test_behind_a_shared_address_are_many_sessions() -> None:
    with RunningDaemon(f"[auth]\n{FEW}", dev=False) as daemon, Visitor(daemon) as visitor:
        assert {visitor.sign(key, "/session", method="POST", source=HERE).status for key in FRESH[:10]} == {200}
