"""Whose page a request comes from, as browsers say it."""

from __future__ import annotations

from tests.integration.client import Header

LISTED = "https://app.example.org"
LISTING = f'[http]\ncors_origins = ["{LISTED}"]\n'
SAME: Header = ("Sec-Fetch-Site", "same-origin")

NOT_OURS: list[list[Header]] = [
    [],
    [("Sec-Fetch-Site", "same-site")],
    [("Sec-Fetch-Site", "cross-site")],
    [("Sec-Fetch-Site", "none")],
    [SAME, ("Sec-Fetch-Site", "cross-site")],
    [("Origin", "https://evil.example"), SAME],
    [("Origin", "null")],
    [("Origin", "null"), SAME],
    [("Origin", LISTED), ("Origin", LISTED)],
]
"""With each of these a request comes from a page that is neither ours nor listed, or from one that nobody can name."""
