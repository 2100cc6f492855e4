"""`sse-daemon keygen`; imported as sse_daemon.cli.keygen, never under the bare name."""

from __future__ import annotations

from pathlib import Path

import click

from sse_daemon import curve_key
from sse_daemon.cli.faults import Failed, note, say
from sse_daemon.errors import KeyFileError
from sse_daemon.signer import Signer, generate

FILE = "sse-daemon.key"
CURVE_FILE = "curve.key"
NEXT = """\
the secret is in {path}, for its owner only; above is the public key.
  If it is a producer's: on the daemon's machine make a file NAME.toml in the folder of [ingest] authorized_keys with the line
      public_key = "{public}"
  reload the daemon (SIGHUP), then connect: sse-daemon publish --key {path} --server-key THE-DAEMON'S-PUBLIC-KEY ...
  If it is the daemon's: [ingest] curve_secret = "{path}", and give the public key to the producers."""


@click.command(short_help="Make a participant's key, or a producer's.")
@click.argument("file", type=click.Path(), required=False)
@click.option("--show", is_flag=True, help="Make nothing: print the public key of a file that is there.")
@click.option("--curve", is_flag=True, help="A key for ZeroMQ, of a producer or of the daemon; FILE may be a folder.")
def command(file: str | None, show: bool, curve: bool) -> None:
    """Make a participant's key, or a producer's.

    FILE (sse-daemon.key unless given, with --curve curve.key) is made, for its owner only, with a new secret key in it; a file that
    is there is never replaced. The public key is printed: without --curve it is the participant.
    """
    if curve:
        _curve(Path(file or CURVE_FILE), show)
        return
    path = file or FILE
    try:
        signer = Signer.from_file(path) if show else generate(path)
    except KeyFileError as error:
        raise Failed(str(error)) from None
    say(signer.public)
    if not show:
        note(f"the secret key is in {path}; whoever has it is this participant")


def _curve(path: Path, show: bool) -> None:
    path = path / CURVE_FILE if path.is_dir() else path
    try:
        if show:
            say(curve_key.read_secret(path).public)
            return
        pair = curve_key.generate()
        curve_key.write_secret(path, pair)
    except ValueError as error:
        raise Failed(f"{path} {error}") from None
    except FileExistsError:
        raise Failed(f"{path} exists; keys are not written over") from None
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}") from None
    say(pair.public)
    note(NEXT.format(path=path, public=pair.public))
