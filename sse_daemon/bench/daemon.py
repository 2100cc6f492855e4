"""A running sse-daemon as a target."""

from __future__ import annotations

import secrets

from sse_daemon.bench.target import Target, ZmqPublish

FRAME = '{"to":["{key}"]}\n{data}'
PUBLIC = '{"to":"*"}\n{data}'


def target(
    *,
    host: str,
    port: int,
    pubsub: str,
    acked: str | None = None,
    pids: tuple[int, ...] = (),
    public: bool = False,
    name: str = "sse-daemon",
    version: str = "",
    path: str = "/events?public_key={key}",
) -> Target:
    """The daemon that listens there. Its participants are made up, and differ from run to run.

    public: what is for all subscribers is published to everybody ("*"), not to the one participant that they share.
    """
    return Target(
        name=name,
        version=version,
        host=host,
        port=port,
        path=path,
        pids=pids,
        prefix=f"bench-{secrets.token_hex(4)}-",
        publish=ZmqPublish(address=pubsub, kind="pub", frames=(FRAME,)),
        publish_all=ZmqPublish(address=pubsub, kind="pub", frames=(PUBLIC,)) if public else None,
        acked=ZmqPublish(address=acked, kind="dealer", frames=(FRAME,)) if acked else None,
        separator='","',
    )
