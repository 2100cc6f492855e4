"""`sse-daemon retained`; imported as sse_daemon.cli.retained, never under the bare name."""

from __future__ import annotations

import time

import click

from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.options import admin_option, json_option
from sse_daemon.cli.tables import Column, document, duration, plain, several, size, table

COLUMNS = (
    Column("ID", "id", plain),
    Column("TO", "to", several, wraps=True),
    Column("TOPIC", "topic", plain, wraps=True),
    Column("TYPE", "type", plain, wraps=True),
    Column("SIZE", "bytes", size, right=True),
    Column("EXPIRES IN", "left", lambda left: "-" if left is None else duration(left), right=True),
)


@click.command(short_help="List retained snapshots.")
@json_option
@admin_option
def command(admin: Admin, as_json: bool) -> None:
    """List retained snapshots.

    They are what a client gets first that comes without a cursor: for each slot (recipient, topic, type) the latest event that
    was to be kept. An expired one is not listed.
    """
    answer = admin.get("/retained")
    if as_json:
        document(answer)
        return
    now = time.time()
    rows = [{**row, "left": None if row["expires"] is None else row["expires"] - now} for row in answer["retained"]]
    table(COLUMNS, rows, "The log holds no retained snapshot.")
