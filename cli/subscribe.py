"""`sse-daemon subscribe`; imported as sse_daemon.cli.subscribe, never under the bare name."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import click

from sse_daemon.cli.faults import Failed, note, say
from sse_daemon.cli.tables import plain
from sse_daemon.consumer import Message, Resync, Subscription, subscribe
from sse_daemon.errors import InvalidParticipant, KeyFileError, SubscribeError

URL = "http://127.0.0.1:8080/events"


class Notes(logging.Handler):
    """What the library logs, most of all why it reconnects, as lines for people."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())


@click.command(short_help="Receive as an ordinary client.")
@click.argument("url", default=URL)
@click.option("--key", type=click.Path(dir_okay=False), metavar="FILE", help="Sign with the secret key in this file: see keygen.")
@click.option("--token", type=click.Path(dir_okay=False), metavar="FILE", help="Send the token in this file, for mode token.")
@click.option("--participant", metavar="KEY", help="Who this client is, for a daemon that believes it.")
@click.option("--types", metavar="A,B", default="", help="Only these types; * stands for any text.")
@click.option("--topics", metavar="A,B", default="", help="Only these topics, such as chat.*.")
@click.option("--last-event-id", metavar="ID", help="Everything after this event; without it: snapshots, then what comes.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many events.")
@click.option("--unix-socket", metavar="PATH", help="Connect to this socket instead of the URL's host.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a JSON object a line, with the data in full.")
def command(
    url: str,
    key: str | None,
    token: str | None,
    participant: str | None,
    types: str,
    topics: str,
    last_event_id: str | None,
    count: int | None,
    unix_socket: str | None,
    as_json: bool,
) -> None:
    """Receive as an ordinary client.

    Prints a line for each event: id, type, data. URL is http://127.0.0.1:8080/events unless given. A lost connection is made
    again, and goes on where it was; where the daemon could not, a line of type `resync` stands at the hole. It ends by Ctrl-C.
    """
    logger = logging.getLogger("sse_daemon.consumer")
    logger.setLevel(logging.INFO)
    logger.addHandler(Notes())
    if key is not None and token is not None:
        raise click.UsageError("--key and --token are two ways to say who this is: leave one out")
    try:
        stream = subscribe(
            url,
            participant,
            key=key,
            headers=None if token is None else {"Authorization": f"Bearer {_token(token)}"},
            last_event_id=last_event_id,
            types=_names(types),
            topics=_names(topics),
            uds=unix_socket,
        )
    except KeyFileError as error:
        raise Failed(str(error)) from None
    except (ValueError, InvalidParticipant) as error:
        raise click.UsageError(str(error)) from None
    try:
        asyncio.run(_print(stream, count, as_json))
    except KeyboardInterrupt:
        return
    except SubscribeError as error:
        raise Failed(str(error)) from None


def _token(path: str) -> str:
    """The token in a file. No message has any of it: it is a secret, and for that reason no argument."""
    try:
        token = Path(path).read_text("ascii").strip()
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or len(token.split()) != 1:
        raise Failed(f"{path} is no token: one line without spaces, in ASCII")
    return token


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


async def _print(stream: Subscription, count: int | None, as_json: bool) -> None:
    printed = 0
    async with stream:
        async for event in stream:
            say(json.dumps(_object(event)) if as_json else line(event))
            printed += 1
            if printed == count:
                return


def _object(event: Message | Resync) -> dict[str, Any]:
    if isinstance(event, Resync):
        return {"id": event.id, "type": "resync", "reason": event.reason, "missed": event.missed}
    return {"id": event.id, "type": event.type, "data": event.data}


def line(event: Message | Resync) -> str:
    """An event on one line, for people."""
    if isinstance(event, Resync):
        missed = "" if event.missed is None else f", {event.missed} missed"
        return f"{plain(event.id)}  resync  {plain(event.reason)}{missed}"
    return f"{plain(event.id)}  {plain(event.type)}  {plain(event.data)}"
