"""The header of an event, a group or a topic: the JSON object of a frame's first line, and what its members may be. Pure.

Each function returns what is valid, and raises a Refusal with its code for everything else. Which members belong together is `envelope`'s affair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import ujson

from sse_daemon.errors import DigestKey, InvalidParticipant, Refusal
from sse_daemon.event import Attrs, is_unsafe
from sse_daemon.participant import Canonical

MAX_NAME = 200
"""Characters of a topic, a group's name, a type or a `from`."""
MAX_ATTRS = 32
MAX_ATTR_NAME = 64
MAX_ATTR_VALUE = 256
MAX_TTL = 10 * 365 * 86_400.0
MAX_N = 2**53 - 1
"""The largest counter: what every JSON implementation carries exactly."""

_CR = ord("\r")
"""As a number, as in sse.py."""


def read_header(head: bytes) -> dict[str, Any]:
    """The header's members. Duplicates are refused: two readers of one header must not see two different events."""
    if not head.isascii():
        _check_utf8(head, "header")  # ujson lets some of what is not UTF-8 pass
    try:
        header = ujson.loads(head)  # not as a string: it would fail to take that as bytes first, for half as much again
    except (ValueError, RecursionError, OverflowError):
        raise Refusal("bad_header", "the first line is not a JSON object") from None
    if not isinstance(header, dict):
        raise Refusal("bad_header", "the first line is not a JSON object")
    # Each member costs one colon. More colons than members: one stands inside a string, or a member stands twice.
    attrs = header.get("attrs")
    if head.count(b":") != len(header) + (len(attrs) if isinstance(attrs, dict) else 0):
        _check_duplicates(head)
    return header


def _check_duplicates(head: bytes) -> None:
    try:
        # Not strict: ujson too takes a raw tab in a string, and whether that is refused must not hang on a colon elsewhere.
        json.loads(head.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, strict=False)
    except (ValueError, RecursionError):
        # What ujson reads and the standard library does not (NaN, a stray escape) is no JSON either.
        raise Refusal("bad_header", "the first line is not a JSON object") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refusal("duplicate_member", "a member stands twice in one object of the header")


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not JSON")


def keys_of(values: Sequence[Any], read: Canonical) -> tuple[str, ...]:
    """The canonical forms of these keys, each once. read: gives one, or says why it is none."""
    try:
        return (read(values[0]),) if len(values) == 1 else tuple(dict.fromkeys(map(read, values)))
    except DigestKey as error:
        raise Refusal("digest_key", str(error)) from None
    except InvalidParticipant as error:
        raise Refusal("bad_participant", str(error)) from None
    except TypeError:
        raise Refusal("bad_participant", "a participant is named by a string") from None


def origin_of(header: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """`from` and `n`: both, or neither."""
    if "from" not in header and "n" not in header:
        return None, None
    if "from" not in header or "n" not in header:
        raise Refusal("bad_origin", "'from' and 'n' stand together")
    n = header["n"]
    if type(n) is not int or not 1 <= n <= MAX_N:
        raise Refusal("bad_origin", "'n' counts a producer's events: 1, 2, 3 ...")
    return name_of(header["from"], "bad_origin", "from"), n


def name_of(value: Any, code: str, what: str) -> str:
    """`value`, if it is a name: a string of 1 to 200 characters, none of which controls, formats or separates lines."""
    if not isinstance(value, str) or not value:
        raise Refusal(code, f"'{what}' is a string that is not empty")
    if len(value) > MAX_NAME:
        raise Refusal(code, f"'{what}' has at most {MAX_NAME} characters")
    if is_unsafe(value):
        raise Refusal(code, f"'{what}' has no control or format characters")
    return value


def attrs_of(value: Any) -> Attrs:
    """`attrs`: a flat object of strings and lists of strings."""
    if not isinstance(value, dict):
        raise Refusal("bad_attrs", "'attrs' is a flat object")
    if len(value) > MAX_ATTRS:
        raise Refusal("bad_attrs", f"'attrs' has at most {MAX_ATTRS} members")
    return tuple((_attr_text(name, MAX_ATTR_NAME), _attr_value(v)) for name, v in value.items())


def _attr_value(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, list):
        if len(value) > MAX_ATTRS:
            raise Refusal("bad_attrs", f"a list in 'attrs' has at most {MAX_ATTRS} strings")
        return tuple(_attr_text(v, MAX_ATTR_VALUE) for v in value)
    return _attr_text(value, MAX_ATTR_VALUE)


def _attr_text(value: Any, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise Refusal("bad_attrs", f"'attrs' holds strings, or lists of strings, of at most {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Refusal("bad_attrs", "a lone surrogate is no character") from None
    return value


def ttl_of(value: Any) -> float:
    """`ttl`, in seconds."""
    # Compared before anything else is done with it: an integer may be too large for a float, and NaN is not less than anything.
    if type(value) not in (int, float) or not 0 < value <= MAX_TTL:
        raise Refusal("bad_ttl", "'ttl' is a number of seconds, more than 0 and at most ten years")
    return float(value)


def flag_of(value: Any, code: str, what: str) -> bool:
    """`value`, if it is true or false."""
    if not isinstance(value, bool):
        raise Refusal(code, f"'{what}' is true or false")
    return value


def data_of(header: Mapping[str, Any], rest: bytes | None) -> bytes:
    """The event's data as UTF-8 with LF line ends, the only ones that an SSE stream can carry."""
    if rest is None:
        data = _header_data(header)
    elif "data" in header:
        raise Refusal("bad_data", "the data stands after the first line or in the header, not in both")
    else:
        data = rest
        if not data.isascii():
            _check_utf8(data, "data")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if _CR in data else data


def _check_utf8(text: bytes, what: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Refusal("not_utf8", f"the {what} is not UTF-8") from None


def _header_data(header: Mapping[str, Any]) -> bytes:
    value = header.get("data", "")
    try:
        text = value if isinstance(value, str) else _compact(value)
        return text.encode()
    except (ValueError, OverflowError, RecursionError):  # UnicodeEncodeError is a ValueError: a lone surrogate
        raise Refusal("bad_data", "'data' holds what JSON or UTF-8 cannot carry") from None


def _compact(value: Any) -> str:
    return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)
