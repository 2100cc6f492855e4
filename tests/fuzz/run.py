"""`make fuzz`: searches every target, or the named ones, for its share of the time; stops at the first finding.

    python -m tests.fuzz.run [--seconds 60] [--blind] [--out .fuzz] [TARGET ...]
    python -m tests.fuzz.run --replay FILE TARGET

What a search has learnt stays in OUT/corpus/TARGET, and the next one begins with it. Exit status 1: something was found.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import NAMES, check_of, literal, write_seeds, write_words

ROOT = Path(__file__).parents[2]
MAX_LENGTH = {"key": 300, "cursor": 300}
"""Bytes of an input, otherwise 4096: longer ones only say the same more slowly, and bounds have tests of their own."""
SLOW = 10
"""Seconds after which an input that is still being read counts as found."""
MEMORY = 2048
"""MiB after which an input does."""
EVERY = 10.0
"""Seconds between two lines of progress."""
GRACE = 60.0
"""Seconds that a search may take longer than it should: the first imports, and the making small of what was found."""

_STATUS = re.compile(r"^#\d+\s+[A-Za-z]+.*", re.MULTILINE)


def main(argv: list[str] | None = None) -> int:
    """The command line. Returns the exit status."""
    asked = arguments().parse_args(argv)
    names = asked.targets or list(NAMES)
    for name in names:
        if ":" not in name and name not in NAMES:
            print(f"fuzz: {name} is none of {' '.join(NAMES)}", file=sys.stderr)
            return 2
    if asked.replay:
        return replay(names[0], asked.replay)
    blind = asked.blind or find_spec("atheris") is None
    if blind and not asked.blind:
        print("fuzz: there is no atheris here; searching blindly, with Hypothesis and without coverage")
    for name in names:
        if not searched(name, asked.seconds / len(names), asked.out.resolve(), blind):
            return 1
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Searches for inputs that break a promise.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {' '.join(NAMES)}, or module:function; all without one")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together (60)")
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("--out", type=Path, default=Path(".fuzz"), help="where corpus, findings and logs go (.fuzz)")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="check the input in FILE once more, with its traceback")
    return parser


def replay(name: str, path: Path) -> int:
    """One input through its check: what it raises is shown as Python shows it."""
    data = path.read_bytes()
    print(f"{name}: {literal(data)}")
    print("accepted" if check_of(name)(data) else "refused")
    return 0


def searched(name: str, seconds: float, out: Path, blind: bool) -> bool:
    """Searches one target; False, and what is to be said about it, if something was found."""
    place = name.replace(":", ".")
    findings, log = out / "findings" / place, out / f"{place}.log"
    findings.mkdir(parents=True, exist_ok=True)
    before = set(findings.iterdir())
    print(f"==> {name}: {seconds:g} s {'without coverage' if blind else 'led by coverage'}", flush=True)
    command = blindly(name, seconds, findings) if blind else guidedly(name, seconds, out / "corpus" / place, findings)
    status = followed(command, log, seconds)
    new = sorted(set(findings.iterdir()) - before)
    if status == 0 and not new:
        return True
    report(name, new, log)
    return False


def blindly(name: str, seconds: float, findings: Path) -> list[str]:
    return ["tests.fuzz.blind", name, f"{seconds:g}", str(findings)]


def guidedly(name: str, seconds: float, corpus: Path, findings: Path) -> list[str]:
    words = corpus.with_suffix(".words")
    write_seeds(name, corpus)
    write_words(name, words)
    limits = [
        f"-dict={words}",
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={MAX_LENGTH.get(name, 4096)}",
        f"-timeout={SLOW}",
        f"-rss_limit_mb={MEMORY}",
    ]
    return ["tests.fuzz.guided", name, *limits, f"-artifact_prefix={findings}/", str(corpus)]


def followed(command: list[str], log: Path, seconds: float) -> int:
    """Runs a search to its end and tells now and then how far it is. Returns its status, or -1 if it had to be ended."""
    command = [sys.executable, "-m", *command]
    with log.open("wb") as file, subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file) as child:
        start = time.monotonic()
        try:
            while child.poll() is None:
                try:
                    child.wait(EVERY)
                except subprocess.TimeoutExpired:
                    print(f"    {progress(log)}", flush=True)
                if time.monotonic() - start > seconds + GRACE:
                    return -1
        finally:
            child.kill()
            child.wait()
            print(f"    {progress(log)}", flush=True)
    return child.returncode


def progress(log: Path) -> str:
    """The last line of a search about itself."""
    lines = _STATUS.findall(log.read_text(errors="replace"))
    return lines[-1].strip() if lines else "(nothing yet)"


def report(name: str, new: list[Path], log: Path) -> None:
    """What was found, and what to do with it."""
    text = log.read_text(errors="replace").splitlines()
    start = next((number for number, line in enumerate(text) if "Traceback" in line or "ERROR" in line), max(0, len(text) - 20))
    print("\n".join(text[start : start + 40]))
    print(f"fuzz: {name} failed; all of it is in {log}", file=sys.stderr)
    for path in new:
        print(f"fuzz: found {path}: {literal(path.read_bytes())}", file=sys.stderr)
        print(f"fuzz: again: python -m tests.fuzz.run --replay {path} {name}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
