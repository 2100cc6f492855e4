"""A producer as a process of its own, on bare ZeroMQ: `publisher.py PUBSUB ACKED NAME COUNT KEY...`, odd events by PUB, even ones acked.

It prints a JSON object for each event: its data, whom it is for, and the id that the daemon answered (null by PUB). What it sends
is deterministic in NAME, so that runs differ only in how they interleave.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence

import zmq


def main(pubsub: str, acked: str, name: str, count: int, keys: Sequence[str]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    pub, dealer = context.socket(zmq.XPUB), context.socket(zmq.DEALER)
    for socket, address in ((pub, pubsub), (dealer, acked)):
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.connect(address)
    pub.recv()
    chance = random.Random(name)
    for n in range(1, count + 1):
        to = "*" if chance.random() < 0.1 else chance.sample(keys, chance.randint(1, 3))
        data = json.dumps({"by": name, "n": n, "to": to})
        frame = json.dumps({"to": to, "from": f"{name}/1", "n": n}).encode() + b"\n" + data.encode()
        if n % 2:
            pub.send(frame)
            id = None
        else:
            dealer.send_multipart([b"%d" % n, frame])
            request, answer = dealer.recv_multipart()
            assert request == b"%d" % n
            (id,) = json.loads(answer)["ids"]
        print(json.dumps({"data": data, "to": to, "id": id}), flush=True)
    context.destroy(linger=30_000)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
