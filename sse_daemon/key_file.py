"""Files that keep keys, read with care: not beyond a bound, and not if others have a say in them."""

from __future__ import annotations

import os
from pathlib import Path

MAX_FILE = 65_536
"""Bytes: room for a set of keys or a list of recipients, and an end to what is read by mistake."""


def read(path: Path, wanted: str, forbidden: int = 0, otherwise: str = "") -> bytes:
    """The whole content. Raises ValueError with what is wrong and what would be right; never with any of the content.

    wanted: what would be right in place of a file that is too long. forbidden: bits that its mode must not have; otherwise: what
    follows from them, and how to mend it.
    """
    try:
        with path.open("rb") as file:
            # Of the file that is read: the path may be another's by now.
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}; a file that this user can read") from None
    if mode & forbidden:
        raise ValueError(f"has mode {mode & 0o777:04o}, so that {otherwise}")
    if len(content) > MAX_FILE:
        raise ValueError(f"has more than {MAX_FILE} bytes; {wanted}")
    return content
