"""Mode "token": who has no token that is good now, for us, and signed by whom we name, reads nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sse_daemon.consumer import Message, subscribe
from sse_daemon.errors import SubscribeRefused
from tests.hardening.pages import SAME
from tests.hardening.signing import ROUTES, Visitor, code, host_of
from tests.hardening.test_sessions import cookie
from tests.hardening.tokens import AUDIENCE, ISSUER, ISSUING, OTHER, bearer, claims, config, jwks, pem, segment, token
from tests.integration.client import Header, Publisher
from tests.integration.daemon import RunningDaemon, command

DOORS = True
BAD = (401, "bad_token")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[RunningDaemon]:
    (folder / "one").write_text(pem())
    with RunningDaemon(config(folder / "one", ROUTES), dev=False) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def several(folder: Path) -> Iterator[RunningDaemon]:
    (folder / "several").write_text(jwks(first=ISSUING, second=OTHER))
    with RunningDaemon(config(folder / "several"), dev=False) as daemon:
        yield daemon


def by(visitor: Visitor, text: str) -> tuple[int, str]:
    """What a request with this token gets: status, and the code of a refusal."""
    return code(visitor.ask("/events", bearer(text)))


# Good ones


def test_a_token_opens_its_participants_stream(visitor: Visitor, daemon: RunningDaemon) -> None:
    stream = visitor.ask("/events", bearer(token()))
    assert stream.status == 200 and stream.header("Sse-Daemon-Auth") is None
    assert '"participant":"alice"' in stream.next()[0].data
    with Publisher(daemon.acked) as publisher:
        publisher.event("not yours", to=["bob"])
        last = publisher.event("yours", to=["alice"])
    assert [message.data for message in stream.until(last)] == ["yours"]
    assert visitor.ask("/events", bearer(token()), ("Accept", "application/json")).json()["events"] == []
    assert daemon.ready["auth"] == "token"
    assert daemon.lines("stream opened")[-1]["participant"] == "alice"
    assert daemon.ask("stats")["metrics"]["clients_unproven"] == 0.0


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["https://other.example.org", AUDIENCE]},
        {"exp": 60.5},
        {"nbf": -10},
        {"nbf": 3, "iat": 3},
        {"jti": "1", "scope": "read", "roles": ["a"], "name": "Ælice"},
    ],
)
def test_what_else_a_good_token_may_say(visitor: Visitor, changes: dict[str, Any]) -> None:
    times = {name: time.time() + after for name, after in changes.items() if name in ("exp", "nbf", "iat")}
    assert by(visitor, token(**{**changes, **times}))[0] == 200


def test_the_scheme_has_no_case(visitor: Visitor) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        assert visitor.ask("/events", ("Authorization", f"{scheme} {token()}")).status == 200


# The signature


def test_a_token_that_nobody_signed(visitor: Visitor) -> None:
    for alg in ("none", "None", "NONE", "", None, True, ["EdDSA"], "eddsa", "Ed25519"):
        assert by(visitor, token(head={"alg": alg})) == BAD
    head, said, _ = token(head={"alg": "none"}).split(".")
    for text in (f"{head}.{said}.", f"{head}.{said}", f"{token().rpartition('.')[0]}.", f"{said}.{said}.{said}"):
        assert by(visitor, text) == BAD


def test_the_public_key_is_no_secret_to_sign_with(visitor: Visitor) -> None:
    secrets = (pem().encode(), pem().strip().encode(), ISSUING.public.encode(), bytes(ISSUING.secret.verify_key))
    for secret in secrets:
        for alg, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            signed = f"{segment({'alg': alg, 'typ': 'JWT'})}.{segment(claims())}"
            mac = hmac.new(secret, signed.encode(), digest).digest()
            assert by(visitor, f"{signed}.{segment(mac)}") == BAD


def test_other_algorithms_are_none(visitor: Visitor) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    own = {"kty": "EC", "crv": "P-256", "x": segment(numbers.x.to_bytes(32)), "y": segment(numbers.y.to_bytes(32))}
    for head in ({"alg": "ES256"}, {"alg": "ES256", "jwk": own}, {"alg": "EdDSA", "jwk": own}):
        signed = f"{segment(head)}.{segment(claims())}"
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        assert by(visitor, f"{signed}.{segment(r.to_bytes(32) + s.to_bytes(32))}") == BAD
    for alg in ("RS256", "PS256", "ES256K", "ES512", "Ed448"):
        assert by(visitor, token(head={"alg": alg})) == BAD


def test_another_ones_signature(visitor: Visitor) -> None:
    assert by(visitor, token(key=OTHER)) == BAD


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_character_is_enough(visitor: Visitor, place: int) -> None:
    parts = token().split(".")
    other = "A" if parts[place][20] != "A" else "B"
    parts[place] = parts[place][:20] + other + parts[place][21:]
    assert by(visitor, ".".join(parts)) == BAD


def test_keys_that_a_token_brings_along_are_not_looked_at(visitor: Visitor) -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": OTHER.public, "kid": "o"}
    for head in ({"jwk": jwk}, {"jku": "http://127.0.0.1:1/jwks"}, {"x5u": "http://127.0.0.1:1/"}, {"x5c": ["AA"]}):
        assert by(visitor, token(head=head, key=OTHER)) == BAD
        assert by(visitor, token(head=head))[0] == 200


def test_what_a_token_demands_that_is_unknown(visitor: Visitor) -> None:
    for head in ({"crit": ["x"], "x": 1}, {"crit": ["b64"], "b64": False}, {"b64": False}, {"crit": []}, {"crit": "exp"}):
        response = visitor.ask("/events", bearer(token(head=head)))
        assert (response.status, response.json()["detail"]) == (401, "the token demands what is not understood here")


@pytest.mark.parametrize(
    "head", [b"", b"[]", b"1", b'"EdDSA"', b"null", b"{", b"\xff", b"[" * 1500, b'{"alg":"EdDSA","kid":7}', b'{"alg":"EdDSA"' * 2]
)
def test_heads_that_are_none(visitor: Visitor, head: bytes) -> None:
    assert by(visitor, token(head=head)) == BAD


@pytest.mark.parametrize("said", [b"", b"[]", b"null", b"1", b"{", b"\xff\xfe", b"[" * 1500, b'{"exp":NaN'])
def test_claims_that_are_none(visitor: Visitor, said: bytes) -> None:
    assert by(visitor, token(said)) == BAD


def test_which_key_it_was(several: RunningDaemon, door: str) -> None:
    with Visitor(several, door) as visitor:
        assert by(visitor, token(head={"kid": "first"}))[0] == 200
        assert by(visitor, token(head={"kid": "second"}, key=OTHER))[0] == 200
        assert by(visitor, token(head={"kid": "second"})) == BAD
        for head in (
            {},
            {"kid": "third"},
            {"kid": ""},
            {"kid": "First"},
            {"kid": ["first"]},
            {"kid": None},
            {"kid": "../../etc/passwd"},
        ):
            assert by(visitor, token(head=head)) == (401, "unknown_key")


# What it says


@pytest.mark.parametrize(
    "aud", ["https://other.example.org", "", AUDIENCE + "/", AUDIENCE.upper(), [], ["x"], [[AUDIENCE]], 7, {}, True]
)
def test_for_somebody_else(visitor: Visitor, aud: object) -> None:
    assert by(visitor, token(aud=aud)) in [(401, "wrong_audience"), BAD]


def test_the_log_says_for_whom_a_token_is(visitor: Visitor, daemon: RunningDaemon) -> None:
    before = len(daemon.lines("request refused"))
    detail = visitor.ask("/events", bearer(token(aud="https://other.example.org"))).json()["detail"]
    assert "audience" in detail and "other.example.org" not in detail
    (line,) = daemon.lines("request refused")[before:]
    assert (line["code"], line["sent"]) == ("wrong_audience", "https://other.example.org")


def test_for_nobody_in_particular(visitor: Visitor) -> None:
    assert by(visitor, token(aud=None)) == BAD
    assert by(visitor, token(said={**claims(), "aud": None})) == BAD


@pytest.mark.parametrize("iss", ["https://evil.example", ISSUER + "/", "", 7, [ISSUER]])
def test_by_somebody_else(visitor: Visitor, iss: object) -> None:
    assert by(visitor, token(iss=iss)) in [(401, "wrong_issuer"), BAD]
    assert by(visitor, token(iss=None)) == BAD


@pytest.mark.parametrize("ago", [0, 1, 3600])
def test_its_time_is_over(visitor: Visitor, ago: int) -> None:
    assert by(visitor, token(exp=int(time.time()) - ago)) == (401, "token_expired")


@pytest.mark.parametrize(
    "exp", ["NaN", "Infinity", "-Infinity", "1e400", "-1", "1" + "0" * 400, "1e300", '"9999999999"', "true", "[]", "{}", "null"]
)
def test_its_end_is_a_time(visitor: Visitor, exp: str) -> None:
    text = json.dumps(claims(exp=None))
    assert by(visitor, token(f'{text[:-1]}, "exp": {exp}}}'.encode())) == BAD


def test_without_an_end_it_is_none(visitor: Visitor) -> None:
    assert by(visitor, token(exp=None)) == BAD


@pytest.mark.parametrize(
    ("nbf", "refused"), [(60, (401, "token_early")), (3600, (401, "token_early")), ("soon", BAD), (1e400, BAD), (True, BAD)]
)
def test_it_is_not_good_yet(visitor: Visitor, nbf: Any, refused: tuple[int, str]) -> None:
    if nbf in (60, 3600):
        nbf += int(time.time())
    assert by(visitor, token(nbf=nbf)) == refused


@pytest.mark.parametrize("sub", [None, 7, ["alice"], {"a": 1}, True])
def test_it_names_nobody(visitor: Visitor, sub: object) -> None:
    assert by(visitor, token(sub=sub)) in [(401, "no_participant"), BAD]


@pytest.mark.parametrize("sub", ["", "*", "a b", "\x00", "a\nb", "é", "k" * 257])
def test_it_names_what_is_no_participant(visitor: Visitor, sub: str) -> None:
    assert by(visitor, token(sub=sub)) == (400, "bad_participant")


# Where it stands


@pytest.mark.parametrize(
    "target",
    ["/events?access_token={0}", "/events?a=b&Access_Token={0}", "/events?authorization={0}", "/events?%61ccess_token={0}"],
)
def test_a_token_in_the_url_is_refused(visitor: Visitor, daemon: RunningDaemon, target: str) -> None:
    text = token()
    assert visitor.refused(target.format(text)) == (400, "token_in_url")
    assert visitor.refused(target.format(text), bearer(text)) == (400, "token_in_url")
    assert code(visitor.ask(target.format(text).replace("/events", "/session"), bearer(text), method="POST")) == (
        400,
        "token_in_url",
    )
    assert text[-60:] not in daemon.log()


def test_two_tokens_are_none(visitor: Visitor) -> None:
    first, second = token(), token(sub="bob")
    for pair in ((first, first), (first, second)):
        assert visitor.refused("/events", *map(bearer, pair)) == (400, "ambiguous_token")
    assert visitor.refused("/events", bearer(first), ("authorization", "Basic YTpi")) == (400, "ambiguous_token")
    assert by(visitor, f"{first}, Bearer {second}") == BAD


@pytest.mark.parametrize("form", ["{}x", "{}=", "{}.", ".{}", "{} ", " x {}", "{}\t", '"{}"', "{},", "\xe9{}"])
def test_a_token_is_spelled_exactly_so(visitor: Visitor, form: str) -> None:
    response = visitor.ask("/events", ("Authorization", "Bearer " + form.format(token())))
    # Spaces at the end are HTTP's, not the value's.
    assert code(response) == BAD if form not in ("{} ", "{}\t") else response.status == 200


def test_a_token_is_not_longer_than_that(visitor: Visitor) -> None:
    assert by(visitor, token(pad="x" * 2000))[0] == 200
    assert by(visitor, token(pad="x" * 4000)) == BAD
    assert by(visitor, "A" * 12000) == BAD


def test_what_is_no_token_at_all(visitor: Visitor) -> None:
    required = (401, "token_required")
    for headers in (
        [],
        [("Authorization", "Basic YTpi")],
        [("Authorization", token())],
        [("X-Public-Key", "alice")],
        [("Authorization", "")],
    ):
        assert visitor.refused("/events", *headers) == required
    assert visitor.refused("/events?public_key=alice") == required
    assert visitor.refused("/public", ("X-Public-Key", "alice")) == required
    for value in ("Bearer", "Bearer ", "Bearer x", "Bearer a.b.c"):
        assert visitor.refused("/events", ("Authorization", value)) == BAD


def test_a_bad_token_is_not_nobody(visitor: Visitor) -> None:
    assert '"participant":null' in visitor.ask("/public").next()[0].data
    assert '"participant":null' in visitor.ask("/keyless", bearer("x")).next()[0].data
    assert '"participant":"alice"' in visitor.ask("/public", bearer(token())).next()[0].data
    assert visitor.refused("/public", bearer(token(key=OTHER))) == BAD


def test_a_token_and_another_key(visitor: Visitor) -> None:
    own = bearer(token())
    conflict = (400, "conflicting_participant")
    assert visitor.ask("/events?public_key=alice", own, ("X-Public-Key", "alice")).status == 200
    assert visitor.refused("/events", own, ("X-Public-Key", "bob")) == conflict
    assert visitor.refused("/events?public_key=bob", own) == conflict
    assert visitor.refused("/events", own, ("X-Public-Key", "alice"), ("X-Public-Key", "alice")) == (400, "ambiguous_participant")


def test_a_refusal_says_what_is_asked_for_and_nothing_that_was_sent(visitor: Visitor) -> None:
    missing = visitor.ask("/events")
    assert missing.header("WWW-Authenticate") == 'Bearer realm="sse-daemon"'
    sent = token(key=OTHER, sub="<script>")
    wrong = visitor.ask("/events", bearer(sent))
    assert wrong.header("WWW-Authenticate") == 'Bearer realm="sse-daemon", error="invalid_token"'
    answer = (wrong.raw_head + wrong.body()).decode()
    assert not any(part in answer for part in (*sent.split("."), "script", ISSUER, AUDIENCE))


# Sessions, ends, and who is thrown out


def test_a_token_opens_a_session_for_a_browser(visitor: Visitor) -> None:
    opened = visitor.ask("/session", bearer(token()), method="POST")
    own = cookie(opened)
    assert re.fullmatch(
        r"__Host-sse-daemon=[\w-]{43}; Path=/; Max-Age=\d+; Secure; HttpOnly; SameSite=Strict", opened.header("Set-Cookie") or ""
    )
    assert '"participant":"alice"' in visitor.ask("/events", own, SAME).next()[0].data
    assert visitor.refused("/events", own, ("Origin", "https://evil.example")) == (403, "origin_refused")
    assert visitor.refused("/events", own, SAME, ("X-Public-Key", "bob")) == (400, "conflicting_participant")
    assert code(visitor.ask("/session", own, SAME, method="POST")) == (401, "token_required")
    assert code(visitor.ask("/session", bearer(token(key=OTHER)), method="POST")) == BAD
    stream = visitor.ask("/events", own, SAME, bearer(token(sub="bob")))
    assert '"participant":"bob"' in stream.next()[0].data, "a token is judged by itself alone"


@pytest.mark.parametrize("workers", [1, 2])
def test_streams_and_sessions_end_with_the_token(folder: Path, door: str, workers: int) -> None:
    (folder / "one").write_text(pem())
    with (
        RunningDaemon(config(folder / "one", f"[daemon]\nworkers = {workers}"), dev=False) as daemon,
        Visitor(daemon, door) as visitor,
    ):
        end = time.time() + 3
        text = token(exp=end)
        opened = visitor.ask("/session", bearer(text), method="POST")
        own = cookie(opened)
        assert opened.json()["seconds"] <= 3
        streams = [visitor.ask("/events", header, SAME) for header in (bearer(text), own) * 3]
        lasting = visitor.ask("/events", bearer(token()))
        assert {stream.rest()[-1].type for stream in streams} == {"bye"}
        assert time.time() >= end - 0.1
        assert by(visitor, text) == (401, "token_expired")
        assert visitor.refused("/events", own, SAME) == (401, "session_over")
        with Publisher(daemon.acked) as publisher:
            lasting.until(publisher.event("still here", to=["alice"]))


def test_a_kick_ends_sessions_and_streams(visitor: Visitor, daemon: RunningDaemon, door: str) -> None:
    carol = f"carol by {door}".replace(" ", "-")
    text = token(sub=carol)
    own = cookie(visitor.ask("/session", bearer(text), method="POST"))
    streams = [visitor.ask("/events", header, SAME) for header in (own, bearer(text))]
    assert daemon.command("kick", "--participant", carol, "--for", "60s").returncode == 0
    assert {stream.rest()[-1].type for stream in streams} == {"bye"}
    assert visitor.refused("/events", own, SAME) == (401, "session_over")
    assert visitor.refused("/events", bearer(text)) == (403, "kicked")


async def test_our_own_client_says_that_its_token_is_over(folder: Path) -> None:
    (folder / "one").write_text(pem())
    with RunningDaemon(config(folder / "one", "[streams]\nretry_min = 0.1\nretry_max = 0.1"), dev=False) as daemon:
        async with subscribe(daemon.events, headers=dict([bearer(token(exp=time.time() + 2))])) as stream:
            with Publisher(daemon.acked) as publisher:
                publisher.event("yours", to=["alice"], retain=True)
            assert cast(Message, await anext(stream)).data == "yours"
            with pytest.raises(SubscribeRefused) as refused:
                await anext(stream)
    assert (refused.value.status, refused.value.code) == (401, "token_expired")


@pytest.mark.parametrize("spelling", [ISSUING.public, bytes(ISSUING.secret.verify_key).hex()])
def test_keys_in_claims_have_their_spellings_too(folder: Path, spelling: str) -> None:
    (folder / "one").write_text(pem())
    settings = config(folder / "one", 'token_claim = "https://example.org/key"\n[participants]\nkeys = "ed25519"')
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon) as visitor:
        stream = visitor.ask("/events", bearer(token(sub="somebody", **{"https://example.org/key": spelling})))
        assert ISSUING.public in stream.next()[0].data
        assert by(visitor, token()) == (401, "no_participant")
        assert by(visitor, token(**{"https://example.org/key": "alice"})) == (400, "bad_participant")


def test_tokens_come_no_faster_than_they_are_checked(folder: Path) -> None:
    (folder / "one").write_text(pem())
    settings = config(folder / "one", "verify_rate_address = 1\n[http]\nshared_addresses = []")
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon) as visitor:
        assert (429, "too_many_signatures") in [by(visitor, token(key=OTHER)) for _ in range(10)]
        assert code(visitor.ask("/events", bearer(token()), source="127.0.0.2"))[0] == 200


def test_no_token_is_written_anywhere(folder: Path) -> None:
    (folder / "one").write_text(pem())
    with RunningDaemon(config(folder / "one", '[log]\nlevel = "debug"'), dev=False) as daemon, Visitor(daemon) as visitor:
        good, bad = token(), token(key=OTHER)
        own = cookie(visitor.ask("/session", bearer(good), method="POST"))
        for header in (bearer(good), bearer(bad), own):
            visitor.ask("/events", header, SAME)
            visitor.ask("/session", header, method="POST")
        everything = daemon.log() + daemon.command("stats").stdout + daemon.command("clients").stdout
        for secret in (*good.split(".")[1:], *bad.split(".")[1:], own[1].partition("=")[2]):
            assert secret not in everything


# The keys' file


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_changed_while_it_runs(tmp_path: Path, door: str, workers: int, until_blocking: Callable[..., Any]) -> None:
    file = tmp_path / "keys"
    file.write_text(jwks(first=ISSUING))
    settings = config(file, f"[daemon]\nworkers = {workers}")

    def answers(visitor: Visitor) -> dict[str, set[tuple[int, str]]]:
        """What both keys' tokens get, from every worker that there is, most likely."""
        tokens = {"first": token(head={"kid": "first"}), "second": token(head={"kid": "second"}, key=OTHER)}
        return {kid: {by(visitor, text) for _ in range(1 if workers == 1 else 12)} for kid, text in tokens.items()}

    good, unknown = {(200, "")}, {(401, "unknown_key")}
    with RunningDaemon(settings, dev=False) as daemon, Visitor(daemon, door) as visitor:
        assert answers(visitor) == {"first": good, "second": unknown}
        open_before = visitor.ask("/events", bearer(token(head={"kid": "first"})))
        for content, expected in (
            (jwks(first=ISSUING, second=OTHER), {"first": good, "second": good}),
            (jwks(second=OTHER), {"first": unknown, "second": good}),
        ):
            file.write_text(content)
            daemon.signal(signal.SIGHUP)
            until_blocking(lambda expected=expected: answers(visitor) == expected, "the keys to be in force")
        for number, mistake in enumerate(("", "garbage", jwks(), pem() + pem()), 1):
            file.write_text(mistake)
            daemon.signal(signal.SIGHUP)
            message = "token keys not reloaded, the ones from before stay in force"
            until_blocking(lambda number=number, message=message: len(daemon.lines(message)) == number, "the complaint")
            assert answers(visitor) == {"first": unknown, "second": good}
            until_blocking(lambda number=number: len(daemon.lines("configuration reloaded in part")) == number, "its end")
            line = daemon.lines("configuration reloaded in part")[-1]
            assert (line["level"], line["mistakes_in"]) == ("warning", "auth.token_keys") and "changed" not in line
        # A mistake elsewhere keeps the rest as it was, but not whom the keys let in.
        file.write_text(jwks(first=ISSUING))
        daemon.configure(settings + "\n[nonsense]\n")
        daemon.signal(signal.SIGHUP)
        until_blocking(lambda: answers(visitor) == {"first": good, "second": unknown}, "the keys to be in force")
        with Publisher(daemon.acked) as publisher:
            open_before.until(publisher.event("still here", to=["alice"]))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fault", ["missing", "folder", "empty", "garbage", "secret", "anybody's", "none of ours"])
def test_without_keys_it_does_not_start(tmp_path: Path, fault: str, workers: int) -> None:
    file = tmp_path / "keys"
    contents = {"empty": "", "garbage": "x", "anybody's": pem(), "none of ours": '{"keys":[]}'}
    contents["secret"] = "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n"
    if fault == "folder":
        file.mkdir()
    elif fault != "missing":
        file.write_text(contents[fault])
        file.chmod(0o666 if fault == "anybody's" else 0o600)
    settings = config(file, f"[daemon]\nworkers = {workers}")
    with RunningDaemon('[auth]\nmode = "claim"\n', dev=False) as daemon:
        daemon.stop()
        before = len(daemon.lines("ready"))
        daemon.configure(settings)
        daemon.launch()
        assert daemon.wait() == 2
        (line,) = [line for line in daemon.log().splitlines() if f"[auth] token_keys: {file}" in line]
        assert "; " in line
        assert len(daemon.lines("ready")) == before
        assert "MC4" not in daemon.log()


def test_subscribe_sends_the_token_of_a_file(daemon: RunningDaemon, tmp_path: Path) -> None:
    file = tmp_path / "token"
    # An unknown position is answered by an event.
    arguments = ("subscribe", daemon.events, "--token", str(file), "--last-event-id", "000000000000-7", "--count", "1")
    file.write_text(token() + "\n")
    done = command(*arguments)
    assert done.returncode == 0 and " resync " in done.stdout, done.stderr
    file.write_text(token(aud="another"))
    done = command(*arguments)
    assert done.returncode == 1 and done.stderr.startswith("sse-daemon: 401 wrong_audience")


@pytest.mark.parametrize("content", ["", "a b", "a\nb", "é", None])
def test_what_is_no_token_is_not_sent_and_not_shown(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    done = command("subscribe", "--token", str(file))
    assert done.returncode == 1 and done.stderr.startswith(f"sse-daemon: {file} ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["token_keys", "token_audience"])
def test_a_mode_without_its_settings_is_a_mistake(missing: str, tmp_path: Path) -> None:
    file = tmp_path / "sse-daemon.toml"
    file.write_text(re.sub(f"{missing} = .*\n", "", config(tmp_path / "keys")))
    with RunningDaemon() as daemon:
        done = daemon.command("check-config", str(file))
    assert done.returncode == 2
    assert f"needs {missing}" in done.stdout + done.stderr


def test_hosts_are_looked_at_as_ever(visitor: Visitor, daemon: RunningDaemon) -> None:
    assert visitor.refused("/events", bearer(token()), host="evil.example") == (421, "wrong_authority")
    assert visitor.ask("/events", bearer(token()), host=host_of(daemon).replace("127.0.0.1", "localhost")).status == 200
    own: Header = cookie(visitor.ask("/session", bearer(token()), method="POST"))
    assert visitor.refused("/events", own, SAME, host="192.0.2.1:1") == (421, "wrong_authority")
