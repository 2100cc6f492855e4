"""The browser's client in a real browser: its key, its sessions, its signatures, and that nothing is lost or seen by others."""

from __future__ import annotations

import shlex
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.test_repository import blocks
from tests.hardening.browser import CHROMIUM, NAME, Page, Wire, certified, chromium, site
from tests.integration.client import Publisher
from tests.integration.daemon import ROOT, RunningDaemon

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: chromium)")

SQLITE = "sqlite:///{directory}/log.db"
REACHED = '[http]\nhosts = ["127.0.0.1"]\n'
"""By any port, such as a Wire's."""
QUICK = "[streams]\nretry_min = 0.1\nretry_max = 0.2\n"
BOTH = pytest.mark.parametrize("session", [True, False], ids=["session", "signed"])

Until = Callable[..., Any]


@pytest.fixture
async def browser() -> AsyncIterator[Any]:
    async with chromium() as browser:
        yield browser


@contextmanager
def house(config: str = "", **how: Any) -> Iterator[tuple[RunningDaemon, Publisher]]:
    """A daemon that wants proof, and somebody who publishes."""
    with RunningDaemon(config, **{"dev": False, **how}) as daemon, Publisher(daemon.acked) as publisher:
        yield daemon, publisher


async def somebody(browser: Any, base: str, origin: str | None = None, **how: Any) -> Page:
    """A page in a browser of its own, so with a key that nobody else has. base: the daemon's address."""
    return await Page.open(await browser.new_context(), origin or base, base, **how)


async def alone(browser: Any, origin: str, **how: Any) -> Page:
    """A page that has the module without any daemon."""
    page = await Page.open(await browser.new_context(), origin, **how)
    module = (ROOT / "sse_daemon" / "web" / "client.js").read_text()
    await page.page.route(f"{origin}/client.js", lambda route: route.fulfill(content_type="text/javascript", body=module))
    return page


# What is received


@BOTH
async def test_a_page_gets_its_events_and_not_its_neighbours(browser: Any, session: bool) -> None:
    with house() as (daemon, publisher):
        alice, bob = await somebody(browser, daemon.http), await somebody(browser, daemon.http)
        keys = [await page.follow(session=session) for page in (alice, bob)]
        assert keys[0] != keys[1]
        for n in range(50):
            publisher.event(f"{n}", to=[keys[n % 2]], type="note")
        publisher.event("all", to="*", type="note")
        await alice.saw([*map(str, range(0, 50, 2)), "all"])
        await bob.saw([*map(str, range(1, 50, 2)), "all"])
        clients = daemon.ask("clients")["clients"]
        assert sorted(client["participant"] for client in clients) == sorted(keys)


@BOTH
async def test_without_a_network_for_a_while_nothing_is_lost(browser: Any, session: bool) -> None:
    with house(REACHED) as (daemon, publisher):
        async with Wire(daemon.http_port) as wire:
            page = await somebody(browser, wire.origin)
            key = await page.follow(session=session)
            publisher.event("before", to=[key], type="note")
            await page.saw(["before"])
            await wire.cut()
            await page.until("stream.state === 'waiting'")
            for n in range(20):
                publisher.event(f"{n}", to=[key], type="note")
            await wire.mend()
            await page.saw(["before", *map(str, range(20))])


@BOTH
async def test_a_daemon_that_dies_and_comes_back_loses_nothing(browser: Any, session: bool) -> None:
    with house(backend=SQLITE) as (daemon, publisher):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=session)
        publisher.event("before", to=[key], type="note")
        await page.saw(["before"])
        daemon.restart(kill=True)
        publisher.event("after", to=[key], type="note")
        await page.saw(["before", "after"])


@BOTH
async def test_a_daemon_that_has_lost_its_log_says_so(browser: Any, session: bool) -> None:
    with house(QUICK) as (daemon, publisher):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=session)
        publisher.event("before", to=[key], type="note")
        await page.saw(["before"])
        daemon.restart()
        await page.saw(["before", "resync backend_reset"])
        publisher.event("after", to=[key], type="note")
        await page.saw(["before", "resync backend_reset", "after"])


@BOTH
async def test_a_connection_that_has_fallen_silent_is_left(browser: Any, session: bool) -> None:
    with house("[streams]\nheartbeat = 0.2\n") as (daemon, publisher):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=session, silence=1500)
        daemon.signal(signal.SIGSTOP)
        try:
            await page.until("states.some(([state, error]) => state === 'waiting' && /silent/.test(error))")
        finally:
            daemon.signal(signal.SIGCONT)
        publisher.event("after", to=[key], type="note")
        await page.saw(["after"])


async def test_what_we_read_ourselves_is_what_the_browser_reads(browser: Any) -> None:
    texts = [
        "",
        " ",
        "a\nb",
        "a\r\nb\rc\n",
        "\n\n",
        ": no comment",
        "data: x",
        "a\n\nevent: note\ndata: x\n\n",
        "\0\x7f\x0b\x0c",
        "\u2028\u0085\ufeff",
        "\U0001f600" * 3,
        "x" * 300_000,
        "end",
    ]
    with house() as (daemon, publisher):
        pages = [await somebody(browser, daemon.http) for _ in range(2)]
        for page, session in zip(pages, (True, False), strict=True):
            await page.follow(session=session)
        ids = publisher.send(*(b'{"to":"*","type":"note"}\n' + text.encode() for text in texts))
        for page in pages:
            await page.saw([text.replace("\r\n", "\n").replace("\r", "\n") for text in texts])
            assert await page.page.evaluate("() => stream.lastEventId") == ids[-1]


LINES = (
    "\ufeffid: 1\ndata: a mark\n\n: a comment\n\nretry: 60000\n\nid: 2\n\ndata\n\ndata:\rdata\r\rdata: a\r\ndata:  b\r\n\r\nevent: note\n"
    "data: by type\n\nevent:\ndata: no type\nid\n\nid: x\0y\ndata: a bad id\n\nevent: note\n\nretry: 1x\nDATA: x\ndata x\n"
    "data: end: \u2028\n\ndata: unfinished"
)


async def test_whatever_a_stream_is_made_of_we_read_it_as_the_browser_does(browser: Any) -> None:
    both = """async (origin) => {
        const heard = (source) => new Promise((resolve) => {
            const events = [];
            const take = ({ type, data, lastEventId }) => {
                if (events.push([type, data, lastEventId]) && data.startsWith("end")) resolve(events);
            };
            for (const type of ["message", "note"]) source.addEventListener(type, take);
        });
        const whole = fetch;
        window.fetch = async (...request) => {
            const answer = await whole(...request);
            const bytes = new Uint8Array(await answer.arrayBuffer());
            // What a network may do as well: a byte at a time.
            const dribble = new ReadableStream({ start: (to) => (bytes.forEach((_, at) => to.enqueue(bytes.slice(at, at + 1))), to.close()) });
            return new Response(dribble, answer);
        };
        const { connect, openKey } = await import("/client.js");
        const ours = connect("/ours", { key: await openKey() });
        return Promise.all([heard(new EventSource("/theirs")), heard(ours)]);
    }"""
    async with site(LINES, "text/event-stream") as port:
        origin = f"http://127.0.0.1:{port}"
        page = await alone(browser, origin)
        theirs, ours = await page.run(both)
        assert len(theirs) == 8
        assert ours == theirs


@BOTH
async def test_several_workers_serve_it_as_one_process_does(browser: Any, session: bool) -> None:
    with house("[daemon]\nworkers = 2\n") as (daemon, publisher):
        pages = [await somebody(browser, daemon.http) for _ in range(2)]
        for page in pages:
            key = await page.follow(session=session)
            publisher.event("hi", to=[key], type="note")
            await page.saw(["hi"])


@BOTH
async def test_it_works_by_a_name_behind_https(browser: Any, session: bool, tmp_path: Path) -> None:
    with house(f'[http]\nhosts = ["{NAME}"]\n') as (daemon, publisher):
        async with Wire(daemon.http_port, NAME, certified(tmp_path)) as wire:
            context = await browser.new_context(ignore_https_errors=True)
            page = await Page.open(context, wire.origin, wire.origin)
            key = await page.follow(session=session)
            publisher.event("hi", to=[key], type="note")
            await page.saw(["hi"])
            kept = {
                cookie["name"]: (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) for cookie in await context.cookies()
            }
            assert kept == ({"__Host-sse-daemon": (True, True, "Strict")} if session else {})


@pytest.mark.parametrize("target", ["/chats/ä b%2Fc|'?attr.room=ü \"'&x=%E2%82%AC#here", "/chats/~.?", "/events?&&="])
@BOTH
async def test_every_url_is_signed_as_it_is_sent(browser: Any, session: bool, target: str) -> None:
    with house('[[stream]]\npath = "/chats/{chat}"\n') as (daemon, publisher):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=session, target=target)
        publisher.event("hi", to=[key], type="note", attrs={"room": "ü \"'"})
        await page.saw(["hi"])


@BOTH
async def test_with_dev_the_key_is_a_claim(browser: Any, session: bool) -> None:
    with house(dev=True) as (daemon, publisher):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=session)
        publisher.event("hi", to=[key], type="note")
        await page.saw(["hi"])


# The key


async def test_a_key_stays_and_cannot_be_read_out(browser: Any) -> None:
    with house() as (daemon, _):
        page = await somebody(browser, daemon.http)
        key = await page.run("async () => (await client.openKey()).publicKey")
        await page.page.reload()
        await page.run("load", daemon.http)
        tries = """async () => {
            const database = await new Promise((resolve) => {
                indexedDB.open("sse-daemon").onsuccess = (event) => resolve(event.target.result);
            });
            const kept = await new Promise((resolve) => {
                database.transaction("keys").objectStore("keys").getAll().onsuccess = (event) => resolve(event.target.result);
            });
            const formats = ["raw", "pkcs8", "jwk"];
            const exported = kept.flatMap(({ secret }) => formats.map((format) => crypto.subtle.exportKey(format, secret)));
            const tried = await Promise.allSettled(exported);
            return [kept.map(({ publicKey }) => publicKey), tried.map(({ status }) => status)];
        }"""
        assert await page.run(tries) == [[key], ["rejected"] * 3]
        again = await page.run("async () => Object.keys(await client.openKey()).sort()")
        assert again == ["ahead", "publicKey"]


async def test_keys_have_names_and_can_be_forgotten(browser: Any) -> None:
    with house() as (daemon, _):
        page = await somebody(browser, daemon.http)
        many = "async (...names) => (await Promise.all(names.map((name) => client.openKey(name)))).map((key) => key.publicKey)"
        first, other, same = await page.run(many, "default", "other", "default")
        assert first == same != other
        await page.run("() => client.forgetKey()")
        new, kept = await page.run(many, "default", "other")
        assert new not in (first, other) and kept == other
        elsewhere = await somebody(browser, daemon.http)
        assert not {*await elsewhere.run(many, "default", "other")} & {first, new, other}


@pytest.mark.parametrize(
    ("origin", "script", "complaint"),
    [
        (
            "http://127.0.0.1:40004",
            "crypto.subtle.generateKey = async () => { throw new DOMException('', 'NotSupportedError') };",
            "Ed25519",
        ),
        ("http://page.example", "", "https"),
    ],
    ids=["an old browser", "no https"],
)
async def test_a_browser_that_cannot_says_why(browser: Any, origin: str, script: str, complaint: str) -> None:
    page = await alone(browser, origin, script=script)
    await page.run("load", origin)
    assert complaint in await page.run("() => client.openKey().catch((error) => error.message)")


@pytest.mark.parametrize("wrong", [-3600, 3600])
@BOTH
async def test_a_clock_that_is_wrong_is_no_obstacle(browser: Any, session: bool, wrong: int) -> None:
    script = f"const now = Date.now; Date.now = () => now() + {wrong * 1000};\n"
    async with site() as port:
        # From another origin: there the page may read the daemon's Date only because the daemon says so.
        other = f"http://127.0.0.1:{port}"
        with house(listing(other)) as (daemon, publisher):
            page = await somebody(browser, daemon.http, other, html=None, script=script)
            key = await page.follow(session=session)
            publisher.event("hi", to=[key], type="note")
            await page.saw(["hi"])
            assert ["waiting", "sign_again"] not in await page.states()


# Sessions


async def test_a_session_is_followed_by_the_next_one(browser: Any) -> None:
    with house("[auth]\nsession_lifetime = 2\n" + QUICK) as (daemon, publisher):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=True)
        expected = []
        while len(daemon.lines("session opened")) < 4 or len(daemon.lines("stream opened")) < 3:
            expected.append(f"{len(expected)}")
            publisher.event(expected[-1], to=[key], type="note")
            await page.saw(expected)
        # The stream that ends with its session comes back with the next session, by itself and without being refused.
        assert not daemon.lines("request refused")


@BOTH
async def test_who_is_kicked_for_a_while_is_out(browser: Any, session: bool) -> None:
    with house(QUICK) as (daemon, _):
        page = await somebody(browser, daemon.http)
        key = await page.follow(session=session)
        assert daemon.command("kick", "--participant", key, "--for", "10m").returncode == 0
        await page.until("stream.state === 'closed'")
        assert (await page.states())[-1] == ["closed", "kicked"]
        assert daemon.ask("clients")["clients"] == []


async def test_keys_of_one_browser_do_not_get_each_others_events(browser: Any) -> None:
    with house(QUICK + REACHED) as (daemon, publisher):
        async with Wire(daemon.http_port) as wire:
            page = await somebody(browser, wire.origin)
            keys = {name: await page.follow(name, session=True) for name in ("alice", "bob")}
            # Both come back by themselves, while the browser has the cookie of the one that came last.
            await wire.cut()
            await page.until("Object.values(all).every(({ stream }) => stream.state === 'waiting')")
            await wire.mend()
            for name, key in keys.items():
                publisher.event(f"for {name}", to=[key], type="note")
            for name in keys:
                await page.until(f"all.{name}.seen.length")
                assert await page.page.evaluate(f"() => all.{name}.seen") == [f"for {name}"]


@BOTH
async def test_a_request_that_was_sent_twice_is_signed_anew(browser: Any, session: bool) -> None:
    # As browsers and proxies do by themselves, when a connection breaks before its answer.
    script = """
        const once = fetch;
        let first = true;
        window.fetch = async (url, init) => {
            if (first && init?.headers?.Signature) {
                first = false;
                await (await once(url, init)).body.cancel();
            }
            return once(url, init);
        };
    """
    with house(QUICK) as (daemon, publisher):
        page = await somebody(browser, daemon.http, script=script)
        key = await page.follow(session=session)
        publisher.event("hi", to=[key], type="note")
        await page.saw(["hi"])
        assert ["waiting", "replayed"] in await page.states()


@BOTH
async def test_closed_is_closed(browser: Any, session: bool, until: Until) -> None:
    with house() as (daemon, _):
        page = await somebody(browser, daemon.http)
        await page.follow(session=session)
        await page.run("() => { stream.close(); stream.close(); }")
        await until(lambda: daemon.ask("clients")["clients"] == [], "the daemon to notice")
        assert (await page.states())[-1] == ["closed", None]


@pytest.mark.parametrize(
    ("target", "types", "code"),
    [("/nowhere", ["note"], "not_found"), ("/events", [f"t{n}" for n in range(101)], "too_many_filters")],
)
@BOTH
async def test_what_is_refused_for_good_ends_it(browser: Any, session: bool, target: str, types: list[str], code: str) -> None:
    with house() as (daemon, _):
        page = await somebody(browser, daemon.http)
        await page.follow(target=target, types=types, session=session, wait=False)
        await page.until("stream.state === 'closed'")
        assert (await page.states())[-1] == ["closed", code]


# Pages of other origins


def listing(*origins: str) -> str:
    """The configuration of a daemon whose streams pages of these origins may read."""
    return "[http]\ncors_origins = [" + ", ".join(f'"{origin}"' for origin in origins) + "]\n"


@pytest.mark.parametrize(("host", "session"), [("127.0.0.1", True), ("127.0.0.1", False), ("localhost", False)])
async def test_a_listed_page_gets_its_events(browser: Any, host: str, session: bool) -> None:
    async with site() as port:
        # A browser keeps a session's cookie for pages of the same site only. Whose site it is, is a question of the host.
        other = f"http://{host}:{port}"
        with house(listing(other)) as (daemon, publisher):
            page = await somebody(browser, daemon.http, other, html=None)
            key = await page.follow(session=session)
            publisher.event("hi", to=[key], type="note")
            await page.saw(["hi"])


async def test_a_page_of_an_unlisted_origin_gets_nothing(browser: Any) -> None:
    tries = """async (url, key) => {
        const outcome = (promise) => promise.then(() => "read", () => "refused");
        const heard = () => new Promise((resolve) => {
            const source = new EventSource(`${url}/events?public_key=${key}`, { withCredentials: true });
            source.onmessage = source.onopen = () => resolve("read");
            source.onerror = () => resolve("refused");
        });
        const included = { credentials: "include" };
        return [
            await outcome(import(`${url}/client.js`)),
            await heard(),
            await outcome(fetch(`${url}/events`, included)),
            await outcome(fetch(`${url}/healthz`, included)),
            await outcome(fetch(`${url}/session`, { ...included, method: "POST" })),
            (await fetch(`${url}/events`, { ...included, mode: "no-cors" })).type,
        ];
    }"""
    async with site() as listed, site() as unlisted:
        with house(listing(f"http://127.0.0.1:{listed}")) as (daemon, _):
            page = await somebody(browser, daemon.http)
            key = await page.follow(session=True)
            # In the same browser: it has the session's cookie, and it is of the same site, so that the cookie is sent along.
            evil = await Page.open(page.page.context, f"http://127.0.0.1:{unlisted}", html=None)
            assert await evil.run(tries, daemon.http, key) == ["refused"] * 5 + ["opaque"]
            assert len(daemon.ask("clients")["clients"]) == len(daemon.lines("stream opened")) == 1
            # From a listed page the same tries come through: the cookie is good, and who refuses is the daemon.
            good = await Page.open(page.page.context, f"http://127.0.0.1:{listed}", html=None)
            assert (await good.run(tries, daemon.http, key))[:2] == ["read"] * 2


# What documents and examples say


def section(name: str, heading: str) -> str:
    """The part of a document below a heading, to the next one of its kind."""
    return (ROOT / name).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


async def check_that_it_shows(browser: Any, html: str, data: str, shown: str) -> None:
    """A page of this HTML gets what is sent to the key that it makes; shown: what is true of it then."""
    with house() as (daemon, publisher):
        page = await somebody(browser, daemon.http, html=html)
        key = await page.run("async () => (await client.openKey()).publicKey")
        publisher.event(data, to=[key], type="note", retain=True)
        await page.until(shown)


async def test_the_page_of_the_documents_works(browser: Any) -> None:
    (html,) = blocks(section("docs/clients.md", "In a page"), "html")
    await check_that_it_shows(browser, html, "dinner is ready", "document.querySelector('li')?.textContent === 'dinner is ready'")


async def test_the_lines_of_the_readme_work(browser: Any) -> None:
    (lines,) = blocks(section("README.md", "Who a client is"), "js")
    html = f"<!doctype html><script type=module>const show = (said) => (document.title = said.text);\n{lines}</script>"
    await check_that_it_shows(browser, html, '{"text": "hello"}', "document.title === 'hello'")


async def test_the_example_shows_what_it_gets(browser: Any) -> None:
    example = (ROOT / "examples" / "page.html").read_text()
    assert example.count("http://127.0.0.1:8080") == 1
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
    async with site(example.replace("127.0.0.1:8080", address)) as port:
        origin = f"http://127.0.0.1:{port}"
        with house(listing(origin), http=[address]) as (daemon, _):
            page = await Page.open(await browser.new_context(), origin, html=None)
            await page.until("document.querySelector('#state').className === 'open'")
            # The command that it shows, as a shell would understand it.
            command = shlex.split(await page.page.text_content("#try") or "")
            assert command[0] == "sse-daemon"
            assert daemon.command(*command[1:]).returncode == 0
            await page.until("document.querySelector('li span')?.textContent === 'dinner is ready'")
