"""What was measured, in one JSON file that is written after every measurement, so that a run which was cut short goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tornado
import zmq

import sse_daemon

FILE = "results.json"


class Record:
    """The file in a folder. It is taken up again if it is unfinished and of the same plan; else its name gets `-before`."""

    def __init__(self, folder: Path, plan: str, chosen: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        head = {"plan": plan, "cases": list(chosen), "version": sse_daemon.__version__}
        found = load(self.path) if self.path.exists() else None
        if found is not None and not found["complete"] and all(found.get(key) == value for key, value in head.items()):
            self.document = found
        else:
            if found is not None:
                self.path.replace(self.path.with_name("results-before.json"))
            self.document = {
                **head,
                "machine": machine(),
                "complete": False,
                "servers": {},
                "done": [],
                "results": [],
                "skipped": [],
            }

    def has(self, turn: str) -> bool:
        """Whether that turn was made before."""
        return turn in self.document["done"]

    def add(
        self,
        turn: str,
        versions: Mapping[str, str],
        results: Sequence[Mapping[str, Any]],
        skipped: Sequence[Mapping[str, Any]],
    ) -> None:
        """Puts down one turn. versions: of the servers that were measured."""
        self.document["done"].append(turn)
        self.document["servers"] |= {server: version for server, version in versions.items() if version}
        self.document["results"] += results
        self.document["skipped"] += [each for each in skipped if each not in self.document["skipped"]]
        self._write()

    def finish(self) -> None:
        """The run is complete."""
        self.document["complete"] = True
        self._write()

    def _write(self) -> None:
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.document, indent=1) + "\n")
        beside.replace(self.path)


def load(path: Path) -> dict[str, Any]:
    """A record as it was written."""
    document = json.loads(path.read_text())
    if not isinstance(document, dict) or "results" not in document:
        raise ValueError(f"{path} is no record of a benchmark")
    return document


def machine() -> dict[str, str]:
    """What the figures depend on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": " ".join(sys.version.split()),
        "tornado": tornado.version,
        "libzmq": zmq.zmq_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "date": time.strftime("%Y-%m-%d"),
    }


class Medians:
    """The medians of a record: figures("to-all n=1000 w=1", "nchan") -> name -> number."""

    def __init__(self, results: Sequence[Mapping[str, Any]]) -> None:
        self._rows: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
        for each in results:
            self._rows.setdefault((each["name"], each["target"]), {})[each["round"]] = each

    def names(self) -> list[str]:
        """Every measurement, in the order of the run."""
        return list(dict.fromkeys(name for name, _ in self._rows))

    def servers(self) -> list[str]:
        """Every server, in the order of the run."""
        return list(dict.fromkeys(server for _, server in self._rows))

    def value(self, name: str, server: str, figure: str) -> float | None:
        """The median over the rounds."""
        found = [row["figures"][figure] for row in self._rounds(name, server).values() if figure in row["figures"]]
        return statistics.median(found) if found else None

    def figures(self, name: str, server: str) -> dict[str, float]:
        """All medians of one measurement."""
        names = dict.fromkeys(figure for row in self._rounds(name, server).values() for figure in row["figures"])
        return {figure: value for figure in names if (value := self.value(name, server, figure)) is not None}

    def ratio(self, name: str, server: str, other: str, figure: str) -> float | None:
        """The median of the rounds' ratios `server` to `other`: what disturbed a round disturbed both."""
        here, there = self._rounds(name, server), self._rounds(name, other)
        found = [
            here[number]["figures"][figure] / there[number]["figures"][figure]
            for number in here.keys() & there.keys()
            if figure in here[number]["figures"] and there[number]["figures"].get(figure)
        ]
        return statistics.median(found) if found else None

    def share(self, name: str, server: str, of: str) -> float | None:
        """The median share of a core; of: "generator" or "server"."""
        found = [row[of] for row in self._rounds(name, server).values() if row.get(of) is not None]
        return statistics.median(found) if found else None

    def at(self, name: str) -> Mapping[str, Any]:
        """Where it was measured, such as {"n": 1000, "w": 16}."""
        return next(row["at"] for (each, _), rows in self._rows.items() if each == name for row in rows.values())

    def rounds(self, name: str, server: str) -> int:
        """How many there were."""
        return len(self._rounds(name, server))

    def faults(self) -> Iterator[str]:
        """What was not sound, a line for each measurement of a server: how often, and the last one's words."""
        for (name, server), rows in self._rows.items():
            said = [fault for row in rows.values() for fault in row["faults"]]
            if said:
                yield f"{name}, {server}: {said[-1]}" + (f" ({len(said)} times)" if len(said) > 1 else "")

    def _rounds(self, name: str, server: str) -> Mapping[int, Mapping[str, Any]]:
        return self._rows.get((name, server), {})
