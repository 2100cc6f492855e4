"""Every exception of the project.

    SseDaemonError
    ├── ConfigError             the configuration cannot be used; carries every mistake
    ├── AddressError            an address, port or path cannot be listened on
    ├── KeyCheckDead            nobody checks the keys of producers, so none may be let in
    ├── WorkerFailed            a process that is to hold streams could not be started
    ├── AuthUnusable            the way of knowing who a client is cannot work; no other takes its place
    ├── KeyFileError            a file of a secret key cannot be read, used or made
    ├── InvalidParticipant      a text is no participant's key
    │   └── DigestKey           it names its key by a digest, and nobody here can look that up
    ├── InvalidCursor           a text is no cursor
    ├── Refusal                 a producer's message was refused; carries code, detail, index
    ├── RequestRefused          a client's request was refused; carries status, code, detail
    │   └── AuthUnavailable     who asks cannot be found out just now; carries client
    ├── BackendError            the log cannot do what was asked
    │   ├── StorageFull         no room for another record; nothing of it was stored
    │   ├── BackendUnavailable  it does not answer now; nothing of the record is known to be stored
    │   └── BackendUnusable     it can never be used as it is: corrupt, newer, held by another daemon
    ├── PublishError            raised by sse_daemon.producer
    │   ├── PublishRefused      the daemon answered no; carries code, detail, index
    │   ├── PublishTimeout      no answer in time; the event may or may not be stored; carries the last refusal
    │   └── ProducerClosed      the producer was closed
    └── SubscribeError          raised by sse_daemon.consumer
        ├── SubscribeRefused    the daemon refuses this request for good; carries status, code, detail
        └── NotAnEventStream    what answered does not speak Server-Sent Events

Refusals are values as well as exceptions: they are collected, counted by `code`, and answered.
"""

from __future__ import annotations

from collections.abc import Sequence


class SseDaemonError(Exception):
    """The root: whatever this project raises on purpose."""


class ConfigError(SseDaemonError):
    """The configuration cannot be used. `mistakes`: all of them, one line each, with place and remedy."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class AddressError(SseDaemonError):
    """`address` cannot be listened on, for `reason`."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"cannot listen on {address}: {reason}")
        self.address = address
        self.reason = reason


class KeyCheckDead(SseDaemonError):
    """What checks the keys of producers does not answer, or answers wrongly: nobody may be let in."""


class WorkerFailed(SseDaemonError):
    """A process that is to hold streams could not be started."""


class AuthUnusable(SseDaemonError):
    """The `[auth] mode` cannot do its work; the message says why, and what would help. Nothing weaker takes its place."""


class KeyFileError(SseDaemonError):
    """A file of a secret key cannot be read, used or made; the message says why and holds nothing of it."""


class InvalidParticipant(SseDaemonError):
    """A text is not the key of a participant; the message says why and does not repeat the text. `code` is what is answered."""

    code = "bad_participant"


class DigestKey(InvalidParticipant):
    """A text is an identifier made by digesting something: whose key that is cannot be seen from it."""

    code = "digest_key"


class InvalidCursor(SseDaemonError):
    """A text is not a cursor of this daemon."""


class Refusal(SseDaemonError):
    """A producer's message was refused, whole.

    `code` is one of the documented words, `detail` is for people, `index` is the place of the first bad event in its batch.
    """

    def __init__(self, code: str, detail: str, index: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.index = index

    def at(self, index: int) -> Refusal:
        """The same refusal, of the event at `index` of its batch."""
        return Refusal(self.code, self.detail, index)


class RequestRefused(SseDaemonError):
    """A client's HTTP request is answered with `status` and the JSON {"error": code, "detail": detail}.

    No text but `sent` may contain anything that the client sent. retry_after: seconds, for the header of that name; date: Unix seconds
    by the clock that signatures are judged by, for the Date header; challenge: what WWW-Authenticate says; sent: what of the request
    it is about, for the log only.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: int | None = None,
        date: float | None = None,
        challenge: str | None = None,
        sent: str | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.date = date
        self.challenge = challenge
        self.sent = sent


class AuthUnavailable(RequestRefused):
    """Who asks cannot be found out just now: 503. `client`: what tells who asks so from others, and says nothing about who it is."""

    def __init__(self, client: str, retry_after: int) -> None:
        super().__init__(503, "auth_unavailable", "nobody says just now who asks; come back later", retry_after)
        self.client = client


class BackendError(SseDaemonError):
    """The log cannot do what was asked. `code` is what a producer is told."""

    code = "backend_failed"


class StorageFull(BackendError):
    """There is no room for another record; nothing of it was stored."""

    code = "storage_full"


class BackendUnavailable(BackendError):
    """The backend does not answer, or answers with a fault that may pass."""

    code = "unavailable"


class BackendUnusable(BackendError):
    """The backend can never be used as it is; the message says what to do."""

    code = "unusable"


class PublishError(SseDaemonError):
    """The root of what `sse_daemon.producer` raises."""


class PublishRefused(PublishError):
    """The daemon refused the message: `code`, `detail` and the `index` of the first bad event."""

    def __init__(self, code: str, detail: str, index: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.index = index


class PublishTimeout(PublishError):
    """No answer came in time, retries included; whether the message is stored is not known.

    refusal: the last one that might have passed, if the daemon said something at all.
    """

    def __init__(self, message: str, refusal: PublishRefused | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


class ProducerClosed(PublishError):
    """The producer was closed before or while it published."""


class SubscribeError(SseDaemonError):
    """The root of what `sse_daemon.consumer` raises."""


class SubscribeRefused(SubscribeError):
    """The daemon refuses this request, and trying again would not help."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class NotAnEventStream(SubscribeError):
    """The answer was 200, but not of type text/event-stream."""
