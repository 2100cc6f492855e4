"""nchan, a module of nginx in C: subscribers over Server-Sent Events, publishers over HTTP."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.peers.base import Running
from bench.peers.probe import when_web_ready
from bench.peers.process import connection_limit, debian_version, free_port, launch

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
"""Where Debian's package has it."""
INSTALL = "apt-get install -y --no-install-recommends nginx-core libnginx-mod-nchan"
CONFIG = """\
load_module {module};
worker_processes 1;
worker_rlimit_nofile {files};
daemon off;
pid nginx.pid;
error_log nginx.log warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    keepalive_timeout 3600;
    nchan_max_reserved_memory 1G;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /sub {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_id;
            nchan_subscriber_first_message newest;
        }}
        location = /pub {{
            nchan_publisher http;
            nchan_channel_id $arg_id;
            nchan_message_buffer_length 100;
            nchan_message_timeout 1m;
        }}
    }}
}}
"""


class Nchan:
    """One worker process; its master, which does nothing meanwhile, counts too."""

    name = "nchan"

    def missing(self) -> str | None:
        """As Peer.missing."""
        if _nginx() and MODULE.exists():
            return None
        return f"{'its module for nginx' if _nginx() else 'nginx'} is not installed: {INSTALL}"

    def start(self, *, core: int | None, directory: Path) -> Running:
        """As Peer.start."""
        port = free_port()
        connections = connection_limit()
        config = directory / "nginx.conf"
        config.write_text(CONFIG.format(module=MODULE, port=port, connections=connections, files=connections + 200))
        child = launch(
            [str(_nginx()), "-e", "nginx.log", "-c", config, "-p", directory], core=core, directory=directory, log="output.log"
        )
        return when_web_ready(self.name, _version(), port, child)


def _nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _version() -> str:
    """Of the module and of nginx, as Debian names them: the module says its own nowhere."""
    return f"{debian_version('libnginx-mod-nchan')} (nginx {debian_version('nginx-core')})"
