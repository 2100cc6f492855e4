"""`sse-daemon groups`; imported as sse_daemon.cli.groups, never under the bare name."""

from __future__ import annotations

import click

from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.faults import say
from sse_daemon.cli.options import admin_option, json_option
from sse_daemon.cli.tables import Column, document, number, plain, several, table

GROUPS = (
    Column("GROUP", "name", plain, wraps=True),
    Column("SIZE", "size", number, right=True),
    Column("MEMBERS", "members", several, wraps=True),
)
TOPICS = (Column("DECLARED TOPIC", "name", plain, wraps=True),)


@click.command(short_help="List groups and declared topics.")
@json_option
@admin_option
def command(admin: Admin, as_json: bool) -> None:
    """List groups and declared topics.

    They are those in force on this daemon: what its producers set and declared, and the log holds.
    """
    answer = admin.get("/groups")
    if as_json:
        document(answer)
        return
    rows = [{**row, "size": len(row["members"])} for row in answer["groups"]]
    table(GROUPS, rows, "The log holds no group.")
    say("")
    table(TOPICS, [{"name": topic} for topic in answer["topics"]], "No topic is declared.")
