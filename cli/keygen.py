"""`sse-daemon keygen`; imported as sse_daemon.cli.keygen, never under the bare name."""

from __future__ import annotations

import click

from sse_daemon.cli.faults import Failed, note, say
from sse_daemon.errors import KeyFileError
from sse_daemon.signer import Signer, generate

FILE = "sse-daemon.key"


@click.command(short_help="Make a participant's key.")
@click.argument("file", type=click.Path(dir_okay=False), default=FILE)
@click.option("--show", is_flag=True, help="Make nothing: print the public key of a file that is there.")
def command(file: str, show: bool) -> None:
    """Make a participant's key.

    FILE (sse-daemon.key unless given) is made, for its owner only, with a new secret key in it; a file that is there is never
    replaced. The public key, which is the participant, is printed.
    """
    try:
        signer = Signer.from_file(file) if show else generate(file)
    except KeyFileError as error:
        raise Failed(str(error)) from None
    say(signer.public)
    if not show:
        note(f"the secret key is in {file}; whoever has it is this participant")
