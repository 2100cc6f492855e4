"""`sse-daemon check-config`; imported as sse_daemon.cli.check_config, never under the bare name."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sse_daemon.cli.faults import refuse, say
from sse_daemon.cli.options import json_option
from sse_daemon.cli.sources import Sources, backend_of, load_keys
from sse_daemon.cli.tables import document
from sse_daemon.config import CONFIG_VARIABLE
from sse_daemon.errors import ConfigError


@click.command(short_help="Show every mistake in a configuration.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--dev", is_flag=True, help="Judge it as `serve --dev` would.")
@json_option
@click.pass_context
def command(ctx: click.Context, file: Path | None, dev: bool, as_json: bool) -> None:
    """Show every mistake in a configuration.

    FILE (default: what SSE_DAEMON_CONFIG names, if anything) and this environment's SSE_DAEMON_* variables are read as `serve`
    would read them; nothing is opened or started. Exit status: 0, or 2 if `serve` would refuse it.
    """
    mistakes = _mistakes(Sources(file, dev=dev))
    if as_json:
        document({"ok": not mistakes, "mistakes": list(mistakes)})
        ctx.exit(2 if mistakes else 0)
    if mistakes:
        refuse(ConfigError(mistakes))
    say(f"{file or os.environ.get(CONFIG_VARIABLE) or 'defaults and environment'}: no mistakes")


def _mistakes(sources: Sources) -> tuple[str, ...]:
    try:
        config = sources.load()
        backend_of(config)
        load_keys(config)
    except ConfigError as error:
        return error.mistakes
    return ()
