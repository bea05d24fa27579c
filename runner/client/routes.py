"""The way to a server: its certificates, and the proxy before it."""

from __future__ import annotations

import ssl
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3

from runner.client.address import Address
from runner.domain.errors import UsageError

CONNECTIONS = 4  # kept: one for a stream, the others for what is asked meanwhile


def pool(address: Address, ca_file: str | None) -> urllib3.PoolManager:
    """Certificates are checked, always: against those of the system, of SSL_CERT_FILE, or of `ca_file` alone."""
    context = _trusted(ca_file) if address.scheme == "https" else None
    proxy = _proxy(address)
    if proxy is None:
        return urllib3.PoolManager(ssl_context=context, maxsize=CONNECTIONS)
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"a proxy is an http:// or https:// address, not {parts.scheme}://", "HTTPS_PROXY, NO_PROXY")
    headers = None
    if parts.username is not None:
        named = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=named)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return urllib3.ProxyManager(bare, proxy_headers=headers, ssl_context=context, maxsize=CONNECTIONS)


def _trusted(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # an SSLError too: what is in the file is no certificate
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"--ca-file {ca_file}: {reason}", "a file of certificates, PEM") from None


def _proxy(address: Address) -> str | None:
    """Of the environment; none to this machine."""
    proxies = getproxies_environment()
    if address.is_here or proxy_bypass(urlsplit(address.url).netloc):
        return None
    found = proxies.get(address.scheme) or proxies.get("all")
    return None if found is None else found if "://" in found else f"http://{found}"
