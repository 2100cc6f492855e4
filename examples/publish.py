"""Publishes one event for one participant, and returns once the daemon has stored it.

    python examples/publish.py alice "dinner is ready" [ADDRESS]

Prints the id that it got there, with which a page rendered now can connect.
"""

from __future__ import annotations

import sys

from sse_daemon.producer import AckedProducer


def main(participant: str, text: str, address: str = "tcp://127.0.0.1:5557") -> None:
    with AckedProducer(address, name="example") as producer:
        print(producer.publish(text, to=[participant], type="note"))


if __name__ == "__main__":
    main(*sys.argv[1:])
