"""POST /session: a browser signs once, and the cookie that it gets speaks for its key for a while."""

from __future__ import annotations

import time

from sse_daemon.auth import Asking, Message
from sse_daemon.auth_proof import KEY_HEADER
from sse_daemon.errors import BackendError, RequestRefused
from sse_daemon.listener import peer_name
from sse_daemon.log import Sparing, logger
from sse_daemon.participant import short
from sse_daemon.web_answer import failed, failure, refusal
from sse_daemon.web_handlers import Base
from sse_daemon.web_request import address_of

_log = logger("web")
_sparing = Sparing(_log, time.monotonic)


class Session(Base):
    """Answers {"participant", "seconds"}; another signed POST before that time is over opens the next one."""

    methods = "POST, OPTIONS"
    route_headers = (KEY_HEADER,)

    async def post(self) -> None:
        asking = self._asking()
        try:
            if self.request.body:
                raise RequestRefused(400, "bad_request", "a session is asked for without a body")
            cookie = await self.site.authenticator.begin(asking)
            if cookie is not None:
                self.site.door.check_barred(cookie.participant)
        except RequestRefused as refused:
            _sparing.info("session refused", code=refused.code, address=asking.address)
            self.answer_and_close(refusal(refused))
            return
        except BackendError as error:
            self.answer_and_close(failed(error))
            return
        if cookie is None:
            self.answer_and_close(failure(404))
            return
        _log.info("session opened", extra={"participant": short(cookie.participant), "address": asking.address})
        self.set_header("Set-Cookie", cookie.value)
        self.finish({"participant": cookie.participant, "seconds": cookie.seconds})

    def _asking(self) -> Asking:
        http = self.request
        path, _, query = (http.uri or "").partition("?")
        message = Message(http.method or "", path, query, http.headers.get_list)
        peer = peer_name(getattr(http.connection.context, "address", None))  # type: ignore[union-attr]
        address = address_of(self.site.config(), http.headers, peer)
        return Asking(KEY_HEADER, "", http.headers.get_list(KEY_HEADER), (), "required", "refuse", None, peer, address, message)
