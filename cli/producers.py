"""`sse-daemon producers`; imported as sse_daemon.cli.producers, never under the bare name."""

from __future__ import annotations

import time

import click

from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.options import admin_option, json_option
from sse_daemon.cli.tables import Column, document, duration, number, plain, table

COLUMNS = (
    Column("FROM", "from", plain, wraps=True),
    Column("RATE/S", "rate", lambda rate: f"{rate:,.1f}", right=True),
    Column("SEEN AGO", "ago", duration, right=True),
    Column("HIGHEST", "highest", number, right=True),
    Column("ACCEPTED", "accepted", number, right=True),
    Column("REPEATED", "repeated", number, right=True),
    Column("GAPS", "missing", number, right=True),
    Column("REFUSED", "refused", number, right=True),
    Column("LOST", "lost", number, right=True),
)


@click.command(short_help="List who publishes, how much, and what is missing of it.")
@json_option
@admin_option
def command(admin: Admin, as_json: bool) -> None:
    """List who publishes, how much, and what is missing of it.

    A row is one run of a producer that numbers its events (`from` and `n`). GAPS: numbers that never arrived. REFUSED: events
    that the daemon refused; LOST: those of them whose producer does not know, because it publishes over PUB/SUB.
    """
    answer = admin.get("/producers")
    if as_json:
        document(answer)
        return
    now = time.time()
    rows = [{**row, "ago": now - row["seen"]} for row in answer["producers"]]
    table(COLUMNS, rows, "No producer has been seen that says who it is (the envelope's `from` and `n`).")
