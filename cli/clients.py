"""`sse-daemon clients`; imported as sse_daemon.cli.clients, never under the bare name."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from sse_daemon.cli.admin_client import Admin, remark
from sse_daemon.cli.faults import note
from sse_daemon.cli.options import admin_option, json_option
from sse_daemon.cli.tables import Column, document, duration, number, plain, table

WHO = (
    Column("ID", "id", plain),
    Column("PARTICIPANT", "participant", plain, wraps=True),
    Column("ROUTE", "route", plain, wraps=True),
    Column("ADDRESS", "address", plain, wraps=True),
)
OPEN = (
    *WHO,
    Column("AGE", "age", duration, right=True),
    Column("DELIVERED", "delivered", number, right=True),
    Column("LAG", "lag", number, right=True),
    Column("STATE", "state", plain),
)
CLOSED = (
    *WHO,
    Column("CLOSED AGO", "ago", duration, right=True),
    Column("AGE", "age", duration, right=True),
    Column("DELIVERED", "delivered", number, right=True),
    Column("REASON", "reason", plain),
)
KICKED = (Column("PARTICIPANT", "participant", plain), Column("FOR", "left", duration, right=True))
SORTS = ("id", "participant", "route", "address", "age", "delivered", "lag", "state", "reason")


@click.command(short_help="List open streams, or recently closed ones.")
@click.option("--participant", metavar="KEY", help="Only this participant's.")
@click.option("--sort", type=click.Choice(SORTS), help="Texts ascending, numbers descending. Default: the oldest first.")
@click.option("--closed", is_flag=True, help="Recently closed ones, the latest first, with the reason.")
@click.option("--kicked", is_flag=True, help="Instead: who is refused since a `kick --for`, and for how much longer.")
@json_option
@admin_option
def command(admin: Admin, participant: str | None, sort: str | None, closed: bool, kicked: bool, as_json: bool) -> None:
    """List open streams, or recently closed ones.

    LAG is how many positions of the log a stream is behind. STATE: live, behind (its client reads too slowly or has just come),
    fetching (it is read from the backend), closing.
    """
    columns = CLOSED if closed else OPEN
    if kicked:
        if closed or sort is not None:
            raise click.UsageError("--kicked lists no streams: neither --closed nor --sort goes with it")
        _kicked(admin, participant, as_json)
        return
    if sort is not None and sort not in {column.of for column in columns}:
        raise click.UsageError(f"{'closed' if closed else 'open'} streams have no {sort}")
    answer = admin.get("/clients", {"participant": participant, "closed": "1" if closed else None})
    rows = _sorted(answer["clients"], sort)
    if as_json:
        document({**answer, "clients": rows})
        return
    remark(answer, answer["auth"])
    if answer["not_ready"] is not None:
        note(f"the daemon is not ready: {answer['not_ready']}")
    now = time.time()
    table(columns, [_with_ages(row, now) for row in rows], _empty(participant, closed))


def _kicked(admin: Admin, participant: str | None, as_json: bool) -> None:
    answer = admin.get("/kicked", {"participant": participant})
    if as_json:
        document(answer)
    else:
        table(KICKED, answer["kicked"], f"{plain(participant)} is not refused." if participant else "Nobody is refused.")


def _sorted(rows: Sequence[Mapping[str, Any]], sort: str | None) -> Sequence[Mapping[str, Any]]:
    if sort is None:
        return rows
    if sort == "age":
        return sorted(rows, key=lambda row: row.get("closed", 0.0) - row["opened"], reverse=True)
    if rows and isinstance(rows[0][sort], int | float):
        return sorted(rows, key=lambda row: row[sort], reverse=True)
    return sorted(rows, key=lambda row: str(row[sort] or ""))


def _with_ages(row: Mapping[str, Any], now: float) -> Mapping[str, Any]:
    if "closed" not in row:
        return row
    return {**row, "ago": now - row["closed"], "age": row["closed"] - row["opened"]}


def _empty(participant: str | None, closed: bool) -> str:
    what = "No stream was closed lately" if closed else "No stream is open"
    return f"{what} of participant {plain(participant)}." if participant else f"{what}."
