"""Publishes this machine's own readings, a few times a second, until SIGTERM or Ctrl-C: an ordinary producer.

    python examples/readings.py [ADDRESS]

Load and network are public, memory is for alice, disk for bob. Each event's data says whom it is for and carries a serial number
that counts this topic's events, so that whoever receives them can tell what is missing or not theirs. At the end one line of JSON
says how many of each were sent.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple

from sse_daemon.producer import Producer, PublishError

DEFAULT = "tcp://127.0.0.1:5556"
EVERY = 0.4
"""Seconds between two rounds; a round is one event of each topic."""

GIB = 1024**3


class Reading(NamedTuple):
    """A topic, whom it is for, and how to read it now, as a text for people."""

    topic: str
    to: str | list[str]
    read: Callable[[], str]


def load() -> str:
    """The mean number of runnable processes over 1, 5 and 15 minutes."""
    with open("/proc/loadavg") as file:
        return " ".join(file.read().split()[:3])


def memory() -> str:
    """What programs could still be given (the file has kB)."""
    with open("/proc/meminfo") as file:
        kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in file)}
    return f"{kib['MemAvailable'] / 1024:,.0f} MiB available"


def disk() -> str:
    """Room on the file system of /, for users who are not root."""
    now = os.statvfs("/")
    return f"{now.f_bavail * now.f_frsize / GIB:,.2f} GiB free"


def network() -> str:
    """Bytes in and out since the machine started, over all interfaces: fields 1 and 9 of a line (proc_pid_net(5))."""
    with open("/proc/net/dev") as file:
        fields = [line.partition(":")[2].split() for line in file if ":" in line]
    received, sent = (sum(int(line[at]) for line in fields) for at in (0, 8))
    return f"rx {received / 1e6:.1f} tx {sent / 1e6:.1f} MB"


READINGS = (
    Reading("load", "*", load),
    Reading("memory", ["alice"], memory),
    Reading("disk", ["bob"], disk),
    Reading("network", "*", network),
)


def publish_until(stop: threading.Event, address: str) -> dict[str, int]:
    """Publishes rounds until `stop` is set; returns how many events of each topic were sent."""
    sent = dict.fromkeys((reading.topic for reading in READINGS), 0)
    with Producer(address, name="readings") as producer:
        while not stop.wait(EVERY):
            for topic, to, read in READINGS:
                data = {"serial": sent[topic] + 1, "for": to, "reading": read()}
                producer.publish(data, to=to, type=topic, topic=topic)
                sent[topic] += 1
    return sent


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        sent = publish_until(stop, *(sys.argv[1:] or [DEFAULT]))
    except PublishError as error:
        sys.exit(f"readings: {error}")
    audience = {reading.topic: reading.to for reading in READINGS}
    print(json.dumps({"sent": {topic: {"for": audience[topic], "count": count} for topic, count in sent.items()}}))


if __name__ == "__main__":
    main()
