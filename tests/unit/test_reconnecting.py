from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.reconnecting import MAX_ASKED, Pace, retry_after


def test_first_attempt_is_at_once() -> None:
    assert Pace(1.0, 30.0).remaining() == 0.0


@given(st.integers(0, 100_000), st.integers(0, 2000))
def test_never_sooner_than_asked_and_never_far_beyond_the_maximum(retry: int, failures: int) -> None:
    pace = Pace(0.5, 30.0)
    pace.heard(retry)
    asked = max(0.5, retry / 1000)
    for _ in range(min(failures, 40)):
        pace.lost()
    assert asked <= pace.lost() <= max(asked, 30.0) + asked * 0.1


def test_waits_grow_while_nothing_is_heard_and_start_anew_after() -> None:
    pace = Pace(1.0, 1000.0)
    assert pace.lost() <= 1.1
    assert max(pace.lost() for _ in range(20)) > 10.0
    pace.heard(None)
    assert pace.lost() <= 1.1


def test_waits_are_jittered() -> None:
    def first() -> float:
        return Pace(1.0, 30.0).lost()

    assert len({first() for _ in range(20)}) > 10


def test_asked_wait_holds_once() -> None:
    pace = Pace(1.0, 30.0)
    assert 60.0 <= pace.lost(60.0) <= 66.0
    assert pace.remaining() > 50.0
    pace.heard(None)
    assert pace.lost() < 2.0


def test_absurd_requests_are_bounded() -> None:
    pace = Pace(1.0, 30.0)
    pace.heard(10**400)
    assert pace.lost(1e300) <= MAX_ASKED * 1.1


@pytest.mark.parametrize(("minimum", "maximum"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_bounds_make_sense(minimum: float, maximum: float) -> None:
    with pytest.raises(ValueError):
        Pace(minimum, maximum)


def test_retry_after() -> None:
    assert retry_after(None) is None
    assert retry_after(" 7 ") == 7.0
    assert retry_after("9" * 5000) is not None
    for nonsense in ("", "-1", "soon", "1.5", "\u0661"):
        assert retry_after(nonsense) is None
    later = retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert later is not None
    assert 3000 < later <= 3600
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0
