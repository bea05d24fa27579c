"""What can go wrong on the way to a server, in words: each with its remedy, and whether anything was sent."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from urllib3 import exceptions as faults

from runner.domain.errors import RunnerError, ServerUnreachable

AFTERWARDS = "whether it was done is not known: look before doing it again"
UP = "is `runner serve` up there? --server names another"
TRUST = "--ca-file FILE, or SSL_CERT_FILE, names the authority that signed it"
TOO_MANY = 429
GATEWAY = {502, 503, 504}


class Away(ServerUnreachable):
    """It may answer later. `is_unsent`: nothing was done; `asks_to_wait`: it is there, and said how long to wait.

    `said`: its own words, where it had some.
    """

    def __init__(
        self, message: str, hint: str | None = None, *, is_unsent: bool = False, wait: float = 0.0,
        asks_to_wait: bool = False, said: RunnerError | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, hint)
        self.is_unsent = is_unsent
        self.wait = wait
        self.asks_to_wait = asks_to_wait
        self.said = said

    def told(self, is_certain: bool) -> RunnerError:
        """For people. Where it may have been done after all, they must look."""
        return self.said or ServerUnreachable(self.message, self.hint if is_certain else AFTERWARDS)


def unanswered(error: faults.HTTPError, place: str, patience: float) -> ServerUnreachable:
    """No answer came."""
    match error:
        case faults.SSLError():
            return _untrusted(error, place)
        case faults.ProxyError():
            return Away(
                f"the proxy before {place} cannot be used: {_reason(error)}", "HTTPS_PROXY, NO_PROXY", is_unsent=True
            )
        case faults.ConnectTimeoutError() | faults.NewConnectionError():
            return Away(f"{place} cannot be reached: {_reason(error)}", UP, is_unsent=True)
        case faults.ReadTimeoutError():
            return Away(
                f"{place} did not answer within {patience:g} s", "RUNNER_SERVER_TIMEOUT sets how long is waited"
            )
    return Away(f"the connection to {place} was lost: {_reason(error)}", UP)


def _untrusted(error: faults.SSLError, place: str) -> ServerUnreachable:
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        reason = said.partition("certificate verify failed: ")[2].partition(" (_ssl")[0]
        return ServerUnreachable(f"the certificate of {place} is not trusted: {reason or said}", TRUST)
    return ServerUnreachable(f"{place} does not speak TLS as it should: {_reason(error)}", "http://, where it has none")


def _reason(error: BaseException) -> str:
    """The words of the operating system, where these are the cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "there is no such host"
        if isinstance(cause, TimeoutError):
            return "no connection in time"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__ or _inner(cause)
    return "no connection in time" if type(error) is faults.ConnectTimeoutError else str(error) or type(error).__name__


def _inner(error: BaseException) -> BaseException | None:
    return next((one for one in error.args if isinstance(one, BaseException)), None)


def sent_away(
    status: int, reason: str | None, headers: Mapping[str, str], place: str, said: RunnerError | None
) -> ServerUnreachable | None:  # fmt: skip
    """An answer that leads elsewhere, or to a later time; None for any other."""
    wait = _seconds(headers.get("Retry-After"))
    if 300 <= status < 400:
        target = headers.get("Location", "nowhere")
        return ServerUnreachable(
            f"{place} leads to {target}, and a token is not taken there", "give the address itself: --server URL"
        )
    if status == TOO_MANY:
        words = said.message if said is not None else f"{place} takes no more requests now"
        return Away(words, "try again later", is_unsent=True, wait=wait or 1.0, asks_to_wait=True, said=said)
    if status in GATEWAY:
        return Away(f"{place} cannot answer now: {status} {reason or ''}".rstrip(), UP, wait=wait, said=said)
    return None


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 0.0
