"""`sse-daemon serve`; imported as sse_daemon.cli.serve, never under the bare name."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from sse_daemon import daemon
from sse_daemon.cli.faults import note, refuse
from sse_daemon.cli.sources import Sources, backend_of, load_keys
from sse_daemon.errors import ConfigError

DEV = """\
************************************************************************
* DEVELOPMENT MODE (--dev): nothing here proves who a client is.       *
* Any program on this machine receives anybody's events, and publishes *
* to anybody, just by naming a key. It listens on loopback only.       *
* Never serve people in this mode.                                     *
************************************************************************"""
IN_MEMORY = "events are kept in memory and are gone when this process ends."


@click.command(short_help="Run the daemon.")
@click.option(
    "--config", "path", type=click.Path(path_type=Path), metavar="FILE", help="TOML; default: SSE_DAEMON_CONFIG, if set."
)
@click.option("--dev", is_flag=True, help="For a try: loopback only, trusts the key a client claims, keeps events in memory.")
@click.option("--http", multiple=True, metavar="ADDRESS", help="Where clients come in: host:port or unix:/path. Repeatable.")
@click.option("--pubsub", multiple=True, metavar="ADDRESS", help="Where PUB producers come in: tcp://.. or ipc://.. Repeatable.")
@click.option("--acked", multiple=True, metavar="ADDRESS", help="Where acked producers come in. Repeatable.")
@click.option("--admin", metavar="PATH", help="The admin socket.")
@click.option("--backend", metavar="URL", help='The log: "memory://" or "sqlite:///path/of/log.db".')
@click.option("--workers", metavar="N", help='Processes that hold streams: a number, or "auto" for one a core. Default: 1.')
@click.pass_context
def command(
    ctx: click.Context,
    path: Path | None,
    dev: bool,
    http: tuple[str, ...],
    pubsub: tuple[str, ...],
    acked: tuple[str, ...],
    admin: str | None,
    backend: str | None,
    workers: str | None,
) -> None:
    """Run the daemon.

    An option wins over the environment (SSE_DAEMON_<TABLE>_<KEY>), that over the file. The daemon stays in the foreground and logs
    to standard error; one line says when everything is ready. SIGTERM ends it in order, SIGHUP reads the configuration again.
    """
    options: dict[tuple[str, str], object] = {
        ("http", "listen"): http,
        ("ingest", "pubsub"): pubsub,
        ("ingest", "acked"): acked,
        ("admin", "socket"): admin,
        ("backend", "url"): backend,
        ("daemon", "workers"): int(workers) if workers and workers.isdecimal() else workers,
    }
    sources = Sources(path, options, dev)
    try:
        config = sources.load()
        log = backend_of(config)
        load_keys(config)
    except ConfigError as error:
        refuse(error)
    if dev:
        _warn(config.backend.url)
    ctx.exit(asyncio.run(daemon.serve(config, log, sources.load)))


def _warn(url: str) -> None:
    click.secho(DEV, err=True, fg="yellow", bold=True)
    if url == "memory://":
        note(IN_MEMORY)
