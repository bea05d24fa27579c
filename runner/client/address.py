"""Where a server is and who asks it: checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from runner.domain.errors import NotAllowed, UsageError
from runner.domain.urls import is_loopback

REMEDY = "write http://127.0.0.1:8080, or https://runner.example.org/prefix"


@dataclass(frozen=True, slots=True)
class Address:
    """`url` ends without a slash; a path in it is the prefix of a reverse proxy."""

    url: str
    host: str
    token: str | None = field(default=None, repr=False)

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine: no proxy is asked the way."""
        return is_loopback(self.host)

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]


def address(url: str, token: str | None, *, insecure: bool = False) -> Address:
    """Raises UsageError for what is no address, NotAllowed where the token could be read on its way."""
    parts = _parts(url)
    host = parts.hostname or ""
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise UsageError("the token holds a character that no key has", "runner keys create shows one")
    if token is not None and parts.scheme == "http" and not is_loopback(host) and not insecure:
        raise NotAllowed(
            f"the token would go to {host} in clear text, for everybody on the way to read",
            "https://, or a tunnel to a port of this machine; --insecure where the network is to be trusted",
        )
    return Address(parts.geturl().rstrip("/"), host, token)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or not (url.isascii() and url.isprintable() and " " not in url):
        raise UsageError(f"{url!r} is no address of a server", REMEDY)
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address of a server holds no password", "RUNNER_TOKEN, or --token-file FILE")
    if parts.query or parts.fragment:
        raise UsageError(f"the address of a server ends with its path: {url!r} does not", REMEDY)
    return parts
