from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sse_daemon.envelope import ORIGINS_BYTES, RESERVED_TYPES, Bounds, Parsed, Unresolved, origins, parse, resolve
from sse_daemon.errors import Refusal
from sse_daemon.event import Draft, Group, Record, Topic
from sse_daemon.header import MAX_N, MAX_TTL
from tests.fuzz.messages import BOUNDS, NOW, UNSAFE, check_message, expected, lf_only


def one(frame: bytes | str, bounds: Bounds = BOUNDS) -> Parsed:
    (item,) = parse([frame.encode() if isinstance(frame, str) else frame], bounds)
    return item


def event(frame: bytes | str, bounds: Bounds = BOUNDS) -> Draft:
    item = one(frame, bounds)
    draft = item.draft if isinstance(item, Unresolved) else item
    assert isinstance(draft, Draft)
    return draft


def refusal(frames: Sequence[bytes | str], bounds: Bounds = BOUNDS) -> tuple[str, int | None]:
    with pytest.raises(Refusal) as caught:
        parse([frame.encode() if isinstance(frame, str) else frame for frame in frames], bounds)
    return caught.value.code, caught.value.index


def header(**members: Any) -> str:
    """A public event's header with these members more; `from_` is `from`."""
    return json.dumps({"to": "*"} | {name.rstrip("_"): value for name, value in members.items()})


# What is valid, there and back ------------------------------------------------------------------------------------------------

characters = st.characters(exclude_categories=("Cs",))
names = st.text(st.characters(exclude_categories=tuple(UNSAFE)), min_size=1, max_size=20)  # type: ignore[arg-type]
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12).filter(lambda key: key != "*")
texts = st.text(characters, max_size=12)
attrs = st.dictionaries(texts, st.one_of(texts, st.lists(texts, max_size=3)), max_size=3)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64), floats, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


@st.composite
def headers(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid header of an event, without data."""
    group = draw(st.booleans())
    to = st.one_of(st.just("*"), st.lists(keys, min_size=0 if group else 1, max_size=4))
    members: dict[str, Any] = {"group": draw(names)} if group else {"to": draw(to)}
    if group and draw(st.booleans()):
        members["to"] = draw(to)
    optional = {
        "type": names.filter(lambda name: name not in RESERVED_TYPES),
        "topic": names,
        "attrs": attrs,
        "retain": st.booleans(),
        "ttl": st.one_of(st.integers(1, int(MAX_TTL)), st.floats(0, MAX_TTL, exclude_min=True)),
    }
    for name, strategy in optional.items():
        if draw(st.booleans()):
            members[name] = draw(strategy)
    if draw(st.booleans()):
        members |= {"from": draw(names), "n": draw(st.integers(1, MAX_N))}
    return dict(draw(st.permutations(sorted(members.items()))))


@settings(max_examples=200)
@given(headers(), st.text(characters), st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
def test_every_valid_event_is_read_as_it_was_written(
    members: dict[str, Any], data: str, ascii: bool, by: tuple[str, str]
) -> None:
    head = json.dumps(members, ensure_ascii=ascii, separators=by)
    assert one(head + "\n" + data) == expected(members, lf_only(data.encode()))
    in_header = json.dumps(members | {"data": data}, ensure_ascii=ascii, separators=by)
    assert one(in_header) == expected(members, lf_only(data.encode()))


@given(st.lists(headers(), min_size=1, max_size=5), st.one_of(st.none(), names.filter(lambda name: name[0] != "{")))
def test_a_batch_is_its_events_and_a_topic_frame_is_for_those_without(batch: list[dict[str, Any]], topic: str | None) -> None:
    for number, members in enumerate(batch):
        if "n" in members:
            members["n"] = number + 1
    frames = [json.dumps(members).encode() + b"\n%d" % i for i, members in enumerate(batch)]
    if topic is not None:
        frames.insert(0, topic.encode())
    assert list(parse(frames, BOUNDS)) == [expected(m, b"%d" % i, topic) for i, m in enumerate(batch)]


@given(values.filter(lambda value: not isinstance(value, str)))
def test_a_json_value_as_data_is_written_again_compactly(value: Any) -> None:
    data = event(json.dumps({"to": "*", "data": value})).data
    assert json.loads(data) == value
    if not has_float(value):
        assert data == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def has_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_float, value.values()))
    return any(map(has_float, value)) if isinstance(value, list) else isinstance(value, float)


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        ('{"to":"*"}\n', b""),
        ('{"to":"*"}', b""),
        ('{"to":"*"}\r\nx', b"x"),
        ('{"to":"*"}\n\n', b"\n"),
        ('{"to":"*"}\na\r\nb\rc\n\rd\r', b"a\nb\nc\n\nd\n"),
        ('{"to":"*"}\n\0\u2028\u2029\u0085\ufeff', "\0\u2028\u2029\u0085\ufeff".encode()),
        ('{"to":"*","data":"a\\r\\nb\\u000dc\\u0000"}', b"a\nb\nc\0"),
        ('{"to":"*","data":{"z":1,"a":[true,null,"ü/\\u00fc"]}}', '{"z":1,"a":[true,null,"ü/ü"]}'.encode()),
        ('{"to":"*","data":null}', b"null"),
        ('{"to":"*","data":""}', b""),
        ('{"to":"*","data":0}', b"0"),
        ('{"to":"*","data":1E2}', b"100.0"),
        ('{"to":"*","data":' + "9" * 400 + "}", b"9" * 400),
        ('{"to":"*","data":"\t"}', b"\t"),
        ('{"to":"*","data":":\t"}', b":\t"),
    ],
)
def test_data(frame: str, data: bytes) -> None:
    assert event(frame).data == data


def test_data_after_the_line_feed_is_never_looked_into() -> None:
    assert event(b'{"to":"*"}\n{"a":1,"a":2}{').data == b'{"a":1,"a":2}{'


def test_control_envelopes() -> None:
    assert one('{"group":"g","members":["b","a","b"]}') == Group("g", ("b", "a"))
    assert one('{"group":"g","members":[]}\n') == Group("g", ())
    assert one('{"group":"g","members":["a"],"from":"run","n":3}') == Group("g", ("a",), "run", 3)
    assert one('{"topic":"t","known":true}') == Topic("t", True)
    assert one('{"topic":"t","known":false,"from":"run","n":4}') == Topic("t", False, "run", 4)


def test_a_topic_frame_names_no_topic_of_a_control_envelope() -> None:
    assert parse([b"other", b'{"topic":"t","known":true}', b'{"to":"*"}'], BOUNDS)[0] == Topic("t", True)
    assert refusal(["other", '{"known":true}']) == ("bad_topic", 0)


# What is refused --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "frame"),
    [
        ("bad_header", "{"),
        ("bad_header", "{}x"),
        ("bad_header", '{"to":"*",}'),
        ("bad_header", '{"to":"*"'),
        ("bad_header", '{"to":nan}'),
        ("bad_header", '{"to":"*","type":":","ttl":NaN}'),
        ("bad_header", '{"to":"*","type":"\\x"}'),
        ("bad_header", '{"to":"*","n":' + "9" * 5000 + "}"),
        ("bad_header", '{"data":' + "[" * 5000),
        ("bad_header", '{"to":"*","data":' + "[" * 5000 + "]" * 5000 + "}"),
        ("not_utf8", b'{"to":"*","type":"\xff"}'),
        ("not_utf8", b'{"to":"*","type":"\xed\xa0\x80"}'),
        ("not_utf8", b'{"to":"*"}\n\xff'),
        ("not_utf8", b'{"to":"*"}\nabc\xc3'),
        ("not_utf8", b'{"to":"*"}\n\xed\xa0\x80'),
        ("unknown_member", '{"to":"*","tll":5}'),
        ("unknown_member", '{"to":"*","To":["a"]}'),
        ("unknown_member", '{"to":"*","members":["a"]}'),
        ("unknown_member", '{"to":"*","known":true}'),
        ("unknown_member", '{"group":"g","members":["a"],"data":"x"}'),
        ("unknown_member", '{"group":"g","members":["a"],"known":true}'),
        ("unknown_member", '{"topic":"t","known":true,"type":"x"}'),
        ("bad_to", "{}"),
        ("bad_to", '{"type":"x"}'),
        ("bad_to", '{"to":null}'),
        ("bad_to", '{"to":"a"}'),
        ("bad_to", '{"to":""}'),
        ("bad_to", '{"to":{"a":1}}'),
        ("bad_to", '{"to":5}'),
        ("bad_to", '{"to":"all","group":"g"}'),
        ("no_recipient", '{"to":[]}'),
        ("bad_participant", '{"to":["*"]}'),
        ("bad_participant", '{"to":["a","*"]}'),
        ("bad_participant", '{"to":[""]}'),
        ("bad_participant", '{"to":[null]}'),
        ("bad_participant", '{"to":[5]}'),
        ("bad_participant", '{"to":[["a"]]}'),
        ("bad_participant", '{"to":["a b"]}'),
        ("bad_participant", '{"to":["é"]}'),
        ("bad_participant", '{"to":["a\\n"]}'),
        ("bad_participant", json.dumps({"to": ["k" * 257]})),
        ("bad_participant", '{"group":"g","members":["*"]}'),
        ("too_many_recipients", json.dumps({"to": [str(i) for i in range(1001)]})),
        ("bad_group", '{"group":""}'),
        ("bad_group", '{"group":null,"to":["a"]}'),
        ("bad_group", '{"group":["g"]}'),
        ("bad_group", '{"group":"a\\nb"}'),
        ("bad_group", '{"members":["a"]}'),
        ("bad_group", '{"group":"g","members":"a"}'),
        ("bad_group", '{"group":"g","members":{"a":1}}'),
        ("bad_group", '{"group":"g","members":null}'),
        ("bad_group", '{"group":"g","members":["a"]}\nx'),
        ("bad_group", json.dumps({"group": "g", "members": [str(i) for i in range(1001)]})),
        ("bad_topic", '{"known":true}'),
        ("bad_topic", '{"topic":"t","known":1}'),
        ("bad_topic", '{"topic":"t","known":null}'),
        ("bad_topic", '{"topic":"","known":true}'),
        ("bad_topic", '{"topic":"t","known":true}\nx'),
        *((code, header(**{member: name})) for code, member in
          [("bad_type", "type"), ("bad_topic", "topic"), ("bad_group", "group")]
          for name in ["", "n" * 201, 5, None, True, ["n"], {"n": 1}, "a\nb", "a\rb", "\0", "\x1b[1m", "\x7f", "\x85", "\u2028",
                       "\u2029", "\u202e", "\ud800", "a\tb"]),
        *(("reserved_type", header(type=name)) for name in ["connected", "heartbeat", "resync", "bye"]),
        *(("bad_attrs", header(attrs=value)) for value in
          [None, [], "a", 5, {"a": 1}, {"a": None}, {"a": {"b": "c"}}, {"a": ["b", 1]}, {"a": [["b"]]}, {"n" * 65: "v"},
           {"n": "v" * 257}, {"n": ["v" * 257]}, {"n": ["v"] * 33}, {str(i): "v" for i in range(33)}, {"a": "\ud800"},
           {"\udfff": "a"}, {"a": ["\ud800"]}]),
        *(("bad_retain", header(retain=value)) for value in [1, 0, None, "true", []]),
        *(("bad_origin", header(from_=value, n=1)) for value in [None, "", 5, "n" * 201, "a\nb", "\ud800"]),
        *(("bad_origin", header(from_="a", n=value)) for value in [0, -1, MAX_N + 1, 10**400, 1.0, "1", None, True, [1]]),
        ("bad_origin", header(from_="a")),
        ("bad_origin", header(n=1)),
        ("bad_origin", '{"group":"g","members":["a"],"from":"a"}'),
        ("bad_origin", '{"topic":"g","known":true,"n":1}'),
        *(("bad_ttl", header(ttl=value)) for value in
          [0, -1, 0.0, -0.5, MAX_TTL * 1.01, 10**400, -(10**400), "5", None, True, [5], {}]),
        ("bad_ttl", '{"to":"*","ttl":NaN}'),
        ("bad_ttl", '{"to":"*","ttl":Infinity}'),
        ("bad_ttl", '{"to":"*","ttl":1e999}'),
        ("bad_data", '{"to":"*","data":"x"}\n'),
        ("bad_data", '{"to":"*","data":"x"}\ny'),
        ("bad_data", '{"to":"*","data":"\\ud800"}'),
        ("bad_data", '{"to":"*","data":{"a":"\\udfff"}}'),
        ("bad_data", '{"to":"*","data":{"\\ud800":1}}'),
        ("bad_data", '{"to":"*","data":NaN}'),
        ("bad_data", '{"to":"*","data":[-Infinity]}'),
        ("bad_data", '{"to":"*","data":1e999}'),
    ],
)  # fmt: skip
def test_each_rule_has_its_code(code: str, frame: bytes | str) -> None:
    assert refusal([frame]) == (code, 0)


@pytest.mark.parametrize(
    "frame",
    [
        '{"to":"*","to":["a"]}',
        '{"to":["a"],"to":"*"}',
        '{"to":["a"],"\\u0074o":["b"]}',
        '{"to":"*","type":"a","type":"a"}',
        '{"to":"*","attrs":{"a":"1","a":"2"}}',
        '{"to":"*","attrs":{"a":"1"},"attrs":{"b":"2"}}',
        '{"to":"*","attrs":{"a":"1","b":"2"},"attrs":"x"}',
        '{"to":"*","data":{"a":1,"a":2}}',
        '{"to":"*","data":[{"a":{"b":1,"b":1}}]}',
        '{"to":"*","n":1,"from":"a","n":1}',
        '{"group":"g","members":[],"members":["a"]}',
        '{"topic":"t","known":true,"known":false}',
    ],
)
def test_a_member_stands_once(frame: str) -> None:
    assert refusal([frame]) == ("duplicate_member", 0)


@given(headers(), st.data())
def test_any_repeated_member_is_found(members: dict[str, Any], data: st.DataObject) -> None:
    twice = data.draw(st.sampled_from(sorted(members)))
    # A colon in a string is what the quick count could mistake for a member, in either direction.
    pairs = [*members.items(), (twice, members[twice])]
    text = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in data.draw(st.permutations(pairs)))
    assert refusal(["{" + text + "}\nx"]) == ("duplicate_member", 0)


def test_bounds_are_kept_exactly() -> None:
    bounds = Bounds(max_frame=20, max_frames=2, max_recipients=2, max_members=1)
    assert event('{"to":"*"}\n' + "x" * 9, bounds).data == b"x" * 9
    assert refusal(['{"to":"*"}\n' + "x" * 10], bounds) == ("too_large", 0)
    assert len(parse([b"topic", b'{"to":"*"}', b'{"to":"*"}'], bounds)) == 2
    assert refusal(['{"to":"*"}'] * 3, bounds) == ("too_many_frames", None)
    wide = bounds._replace(max_frame=1000)
    assert event('{"to":["a","b"]}', wide).channels == ("participant/a", "participant/b")
    assert refusal(['{"to":["a","b","c"]}'], wide) == ("too_many_recipients", 0)
    assert one('{"group":"g","members":["a"]}', wide) == Group("g", ("a",))
    assert refusal(['{"group":"g","members":["a","b"]}'], wide) == ("bad_group", 0)
    assert event(header(type="n" * 200, topic="n" * 200, group="n" * 200, from_="n" * 200, n=MAX_N, ttl=MAX_TTL)).n == MAX_N
    full = {"n" * 62 + f"{i:02}": ["v" * 256] * 32 for i in range(32)}
    assert len(event(header(attrs=full)).attrs) == 32


@pytest.mark.parametrize(
    ("code", "index", "frames"),
    [
        ("empty_message", None, []),
        ("bad_header", 0, ["topic"]),
        ("bad_header", 0, [' {"to":"*"}']),
        ("bad_header", 0, ["[]"]),
        ("bad_header", 0, ["topic", "topic"]),
        ("bad_header", 0, ["topic", "5"]),
        ("bad_header", 1, ["topic", '{"to":"*"}', "topic"]),
        ("bad_header", 1, ['{"to":"*"}', ""]),
        ("bad_topic", 0, [""]),
        ("bad_topic", 0, ["", '{"to":"*"}']),
        ("bad_topic", 0, ["a\nb", '{"to":"*"}']),
        ("bad_topic", 0, ["t" * 201, '{"to":"*"}']),
        ("not_utf8", 0, [b"\xff", '{"to":"*"}']),
        ("bad_to", 2, ['{"to":"*"}', '{"to":"*"}', '{"to":1}']),
        ("bad_to", 2, ["topic", '{"to":"*"}', '{"to":"*"}', '{"to":1}', '{"ttl":1}']),
        ("bad_origin", 2, [header(from_="a", n=1), header(from_="b", n=1), header(from_="a", n=1)]),
        ("bad_origin", 1, [header(from_="a", n=1), '{"group":"g","members":["a"],"from":"a","n":1}']),
    ],
)
def test_a_batch_is_refused_with_the_index_of_its_first_bad_event(
    code: str, index: int | None, frames: list[bytes | str]
) -> None:
    assert refusal(frames) == (code, index)


def test_no_refusal_repeats_what_was_sent() -> None:
    for frame in ('{"to":["a secret key"]}', '{"to":"*","secret":1}', '{"secret', header(type="secret\n"), header(ttl="secret")):
        with pytest.raises(Refusal) as caught:
            one(frame)
        assert "secret" not in str(caught.value)


# Anything at all --------------------------------------------------------------------------------------------------------------

MEMBERS = ["to", "group", "type", "topic", "attrs", "retain", "from", "n", "ttl", "data", "members", "known", "other"]
wild = st.one_of(values, st.sampled_from(["*", "\ud800", math.inf, math.nan, 10**400, ["a"], {"a": "b"}, True, "connected"]))
almost = st.dictionaries(st.sampled_from(MEMBERS), wild, max_size=6).map(lambda members: json.dumps(members).encode())
torn = st.tuples(almost, st.binary(max_size=6), st.integers(0, 80)).map(lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :])
frames = st.one_of(
    st.binary(max_size=60),
    st.binary(max_size=60).map(lambda rest: b"{" + rest),
    st.text(st.sampled_from('{}[]":,\\ntoru1.eE-*_\n\r '), max_size=60).map(lambda text: b"{" + text.encode()),
    almost,
    torn,
    headers().map(lambda members: json.dumps(members).encode()),
)


@settings(max_examples=200)
@given(st.lists(frames, max_size=4))
@example([b'{"to":"*","ttl":' + b"9" * 400 + b"}"])
@example([b'{"to":"*","n":-,"from":"a"}'])
@example([b"{" * 2000])
@example([b'{"to":"*","data":' + b'{"a":' * 990 + b"1" + b"}" * 991])
def test_anything_gives_valid_items_or_a_refusal(message: list[bytes]) -> None:
    check_message(message)


@pytest.mark.parametrize(
    ("spelled", "read"), [("08", b"8"), ("-01", b"-1"), ("1.", b"1.0"), ("-", b"0"), ("[-.5]", b"[-0.5]"), (".5", None)]
)
def test_numbers_that_json_spells_otherwise_are_read_in_decimal_or_refused(spelled: str, read: bytes | None) -> None:
    frame = f'{{"to":"*","data":{spelled}}}'
    if read is None:
        assert refusal([frame]) == ("bad_header", 0)
    else:
        assert event(frame).data == read
        assert check_message([frame.encode()])


# From a message to its record -------------------------------------------------------------------------------------------------


def resolved(*frames: str, bounds: Bounds = BOUNDS, **groups: Sequence[str]) -> Record:
    return resolve(parse([frame.encode() for frame in frames], bounds), groups, bounds, NOW)


def channels_of(frame: str, **groups: Sequence[str]) -> tuple[str, ...]:
    (draft,) = resolved(frame, **groups)
    assert isinstance(draft, Draft)
    return draft.channels


@pytest.mark.parametrize(
    ("frame", "channels"),
    [
        ('{"to":["a","b","a"]}', ("participant/a", "participant/b")),
        ('{"to":["a"],"topic":"t"}', ("participant/a",)),
        ('{"to":"*"}', ("public",)),
        ('{"to":"*","topic":"t"}', ("public", "topic/t")),
        ('{"group":"g"}', ("participant/x", "participant/y")),
        ('{"to":["y","a"],"group":"g"}', ("participant/y", "participant/a", "participant/x")),
        ('{"to":[],"group":"g"}', ("participant/x", "participant/y")),
        ('{"to":"*","group":"g","topic":"t"}', ("public", "topic/t", "participant/x", "participant/y")),
        ('{"to":["public"]}', ("participant/public",)),
    ],
)
def test_recipients_become_channels(frame: str, channels: tuple[str, ...]) -> None:
    assert channels_of(frame, g=("x", "y")) == channels


def test_the_rest_of_an_event_stays_as_it_is() -> None:
    (draft,) = resolved(header(type="t", topic="c", attrs={"k": ["v"]}, retain=True, from_="run", n=2, ttl=1.5) + "\nx")
    assert draft == Draft(("public", "topic/c"), "t", "c", (("k", ("v",)),), b"x", NOW + 1.5, True, "run", 2)


def test_a_group_that_is_not_set_is_refused_with_its_index() -> None:
    for groups in ({}, {"g": ()}):
        with pytest.raises(Refusal) as caught:
            resolved('{"to":"*"}', '{"to":["a"],"group":"g"}', **groups)
        assert (caught.value.code, caught.value.index) == ("unknown_group", 1)


def test_a_group_is_as_the_message_itself_has_set_it_last() -> None:
    record = resolved(
        '{"group":"g"}',
        '{"group":"g","members":["n"]}',
        '{"group":"g"}',
        '{"group":"h","members":["m"]}',
        '{"group":"h"}',
        g=("o",),
    )
    assert [item.channels for item in record if isinstance(item, Draft)] == [
        ("participant/o",),
        ("participant/n",),
        ("participant/m",),
    ]
    with pytest.raises(Refusal) as caught:
        resolved('{"group":"g","members":[]}', '{"group":"g"}', g=("o",))
    assert (caught.value.code, caught.value.index) == ("unknown_group", 1)


def test_members_count_as_recipients() -> None:
    bounds = Bounds(max_recipients=3)
    assert len(resolved('{"to":["x","a"],"group":"g"}', bounds=bounds, g=("x", "y"))) == 1
    with pytest.raises(Refusal) as caught:
        resolved('{"to":"*"}', '{"to":["a","b"],"group":"g"}', bounds=bounds, g=("x", "y"))
    assert (caught.value.code, caught.value.index) == ("too_many_recipients", 1)


@given(st.lists(keys, min_size=1, max_size=5), st.lists(keys, max_size=5), st.booleans())
def test_an_event_is_for_exactly_those_it_names(to: list[str], members: list[str], group: bool) -> None:
    frame = json.dumps({"to": to} | ({"group": "g"} if group and members else {}))
    named = {*to, *members} if group and members else set(to)
    channels = channels_of(frame, g=tuple(members))
    assert set(channels) == {f"participant/{key}" for key in named}
    assert len(channels) == len(named)


def test_origins_of_what_is_refused_are_read_where_they_can_be() -> None:
    good, bad = b'{"to":["a b"],"from":"run","n":7}\nx', b'{"from":"run"}'
    assert origins([good], 10) == (1, [("run", 7)])
    assert origins([b"topic", good, bad, b"\xff", b'{"from":"a\\u001b[31m","n":1}'], 10) == (
        4,
        [("run", 7), (None, None), (None, None), (None, None)],
    )
    assert origins([b"no header"], 10) == (1, [(None, None)])
    assert origins([], 10) == (0, [])


def test_origins_of_more_events_or_headers_than_are_welcome_are_not_read() -> None:
    frame = b'{"from":"run","n":7}\n'
    assert origins([frame] * 5, 2) == (5, [("run", 7)] * 2)
    long = b'{"from":"run","n":7,"data":"' + b"x" * (ORIGINS_BYTES * 2 // 5) + b'"}'
    assert origins([long] * 4 + [frame], 10) == (5, [("run", 7)] * 2 + [(None, None)] * 2 + [("run", 7)])
