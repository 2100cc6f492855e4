"""What the daemon is made of: nothing that is installed with it may be of a version whose known faults reach it.

No network is asked: the faults are those known when this was written, and the floors in setup.cfg have to be above them.
"""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest

from tests.architecture.test_packaging import listed, requirements

REPAIRED: dict[str, tuple[str, str]] = {
    # Distribution: the first version without the faults, and what they were.
    "tornado": ("6.6.1", "smuggling, header injection, quadratic parsers: GHSA-qppv-j76h-2rpx to CVE-2026-35536"),
    "pynacl": ("1.6.2", "points outside of the prime-order group taken for valid: CVE-2025-69277"),
    "pyjwt": ("2.12.0", "unknown critical headers of tokens ignored: CVE-2026-32597"),
    "cryptography": ("46.0.7", "buffers in pieces overran: CVE-2026-39892; keys on binary curves: CVE-2026-26007"),
    "pyzmq": ("27.3", "the first that is tried; libzmq 4.3.5"),
    "ujson": ("6", "the first that is tried; before 5.4 surrogates and a freed buffer, CVE-2022-31116, CVE-2022-31117"),
    "httpx": ("0.28", "the first that is tried; before 0.23 a URL could change its host, CVE-2021-41945"),
}


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def floors() -> dict[str, str]:
    """Distribution, in lower case -> the least version that setup.cfg allows."""
    found = {}
    for name, versions in requirements(listed("options", "install_requires")).items():
        (floor,) = re.findall(r"[>=]=([\d.]+)", versions)
        found[re.split(r"[\[\s]", name)[0].lower()] = floor
    return found


@pytest.mark.parametrize("name", REPAIRED)
def test_no_version_with_a_known_fault_may_be_installed(name: str) -> None:
    floor, reason = REPAIRED[name]
    assert numbers(floors()[name]) >= numbers(floor), reason


def test_everything_that_reads_what_strangers_send_is_looked_at() -> None:
    assert {"tornado", "pynacl", "pyzmq", "ujson"} <= floors().keys() & REPAIRED.keys()


@pytest.mark.parametrize("name", sorted(floors()))
def test_what_is_tested_here_is_what_may_be_installed(name: str) -> None:
    assert numbers(version(name)) >= numbers(floors()[name])
