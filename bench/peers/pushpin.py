"""Pushpin: a reverse proxy that holds the connections its origin tells it to hold, fed over ZeroMQ.

Two more processes belong to it here: zurl, with which it asks the origin, and a tiny origin (apps/pushpin_origin.py). The origin is the
site's and not Pushpin's, so it is neither charged to it nor put on its core. After a stream is open both are idle.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bench.peers.base import Running, ZmqPublish
from bench.peers.probe import when_ready
from bench.peers.process import Child, connection_limit, debian_version, free_ports, launch

INSTALL = "apt-get install -y --no-install-recommends pushpin zurl"
ORIGIN = Path(__file__).with_name("apps") / "pushpin_origin.py"
ITEM = 'J{"channel":"{key}","formats":{"http-stream":{"content":"data: {data}\\n\\n"}}}'
"""A message of its PULL socket: JSON after a J."""
AT_ONCE = 8
"""Streams being opened. With 64 a few in a thousand streams get nothing ("message out of sequence" in its log), with 256 it answers 500 and 502."""

CONFIG = """\
[global]
include={{libdir}}/internal.conf
rundir=.
ipc_prefix=p-

[runner]
services=condure,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{http}
logdir=.
log_level=1
client_maxconn={connections}

[proxy]
routesfile=routes
zurl_out_specs=ipc://zurl-in
zurl_out_stream_specs=ipc://zurl-stream
zurl_in_specs=ipc://zurl-out

[handler]
push_in_spec=tcp://127.0.0.1:{push}
push_in_sub_specs=ipc://sub
push_in_http_addr=127.0.0.1
push_in_http_port={push_http}
command_spec=ipc://command
stats_spec=ipc://stats
message_rate=1000000
message_hwm=1000000
"""
ZURL = """\
[General]
in_spec=ipc://zurl-in
in_stream_spec=ipc://zurl-stream
out_spec=ipc://zurl-out
defpolicy=allow
max_open_requests=2000
buffer_size=200000
timeout=600
in_hwm=1000
out_hwm=1000
"""


class Pushpin:
    """The processes of a plain installation: the runner, condure, proxy, handler, and zurl."""

    name = "pushpin"

    def missing(self) -> str | None:
        """As Peer.missing."""
        absent = [program for program in ("pushpin", "zurl") if not shutil.which(program)]
        return f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not installed: {INSTALL}" if absent else None

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start."""
        http, push, push_http, origin = free_ports(4)
        _configure(directory, http=http, push=push, push_http=push_http, origin=origin)
        children: list[Child] = []

        def stop() -> None:
            for child in reversed(children):
                child.stop()

        try:
            children.append(launch([sys.executable, ORIGIN, str(origin)], core=None, directory=directory, log="origin.log"))
            children.append(
                launch(["zurl", "--config=zurl.conf", "--loglevel=1"], core=core, directory=directory, log="zurl.log")
            )
            children.append(launch(["pushpin", "--config=pushpin.conf"], core=core, directory=directory, log="pushpin.log"))
        except BaseException:
            stop()
            raise
        running = Running(
            name=self.name,
            version=f"{debian_version('pushpin')} (condure {debian_version('condure')}, zurl {debian_version('zurl')})",
            pids=(),
            host="127.0.0.1",
            port=http,
            path="/sub?id={key}",
            publish=ZmqPublish(address=f"tcp://127.0.0.1:{push}", kind="push", frames=(ITEM,)),
            stop=stop,
            at_once=AT_ONCE,
        )
        return when_ready(running, *children[1:])


def _configure(directory: Path, *, http: int, push: int, push_http: int, origin: int) -> None:
    text = CONFIG.format(http=http, push=push, push_http=push_http, connections=connection_limit())
    (directory / "pushpin.conf").write_text(text)
    (directory / "zurl.conf").write_text(ZURL)
    (directory / "routes").write_text(f"* 127.0.0.1:{origin}\n")
