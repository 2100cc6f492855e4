"""`sse-daemon publish`; imported as sse_daemon.cli.publish, never under the bare name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from sse_daemon.cli.event_options import content, event_options, lines, members
from sse_daemon.cli.faults import Failed, say
from sse_daemon.cli.options import DURATION
from sse_daemon.curve_key import Curve
from sse_daemon.errors import PublishError
from sse_daemon.producer import AckedProducer, Envelope, Producer
from sse_daemon.publish_link import ACKED, PUBSUB


@click.command(short_help="Publish as an ordinary producer.")
@click.argument("data", metavar="[DATA or -]", required=False)
@event_options
@click.option("--lines", "by_line", is_flag=True, help="An event for each line of standard input, as it comes.")
@click.option("--acked", is_flag=True, help="Wait until the event is stored, and print its id.")
@click.option("--address", metavar="ADDRESS", help=f"The daemon's socket; default: {PUBSUB}, with --acked {ACKED}.")
@click.option("--name", default="sse-daemon-publish", show_default=True, help="What the daemon knows this producer by.")
@click.option("--timeout", type=DURATION, default="10s", show_default=True, metavar="TIME", help="Give up after it.")
@click.option("--key", metavar="FILE", envvar="SSE_PUBLISH_KEY", help="For CURVE: this producer's key file, of `keygen --curve`.")
@click.option("--server-key", metavar="KEY", envvar="SSE_PUBLISH_SERVER_KEY", help="For CURVE: the daemon's public key.")
def command(
    data: str | None,
    by_line: bool,
    acked: bool,
    address: str | None,
    name: str,
    timeout: float,
    key: str | None,
    server_key: str | None,
    **event: Any,
) -> None:
    """Publish as an ordinary producer.

    DATA is the event's data; `-` takes it from standard input, as it is. Over PUB, the default, the daemon stores the event if it
    can and nobody learns if it cannot; with --acked the exit status tells.
    """
    if by_line and data is not None:
        raise click.UsageError("--lines takes the data from standard input: leave DATA out")
    header = members(**event)
    curve = _curve(key, server_key)
    events = _envelopes(header, lines() if by_line else [content(data)])
    try:
        if acked:
            _acked(address or _configured("ACKED") or ACKED, name, timeout, curve, events)
        else:
            _published(address or _configured("PUBSUB") or PUBSUB, name, timeout, curve, events)
    except PublishError as error:
        raise Failed(str(error)) from None


def _curve(key: str | None, server_key: str | None) -> Curve | None:
    if key is None and server_key is None:
        return None
    if key is None or server_key is None:
        raise click.UsageError("--key and --server-key belong together")
    try:
        return Curve.read(key, server_key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _configured(kind: str) -> str | None:
    """The first address that the daemon's own variable names: where both run in one environment, both mean the same."""
    return os.environ.get(f"SSE_DAEMON_INGEST_{kind}", "").partition(",")[0].strip() or None


def _envelopes(header: Mapping[str, Any], texts: Iterable[str]) -> Iterator[Envelope]:
    for text in texts:
        try:
            yield Envelope(text, **header)
        except (ValueError, TypeError) as error:
            raise click.UsageError(str(error)) from None


def _acked(address: str, name: str, timeout: float, curve: Curve | None, events: Iterable[Envelope]) -> None:
    with _made(AckedProducer, address, name=name, timeout=timeout, curve=curve) as producer:
        for event in events:
            for id in producer.publish_batch([event]):
                say(id)


def _published(address: str, name: str, timeout: float, curve: Curve | None, events: Iterable[Envelope]) -> None:
    with _made(Producer, address, name=name, connect_timeout=timeout, linger=timeout, curve=curve) as producer:
        for event in events:
            producer.publish_batch([event])
    if producer.dropped:
        raise Failed(f"{producer.dropped} events were dropped: the daemon takes them too slowly; --acked waits for it")


def _made(kind: Any, address: str, **options: Any) -> Any:
    try:
        return kind(address, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
