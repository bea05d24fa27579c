"""Addresses: URLs of databases as they may be shown, and which hosts are this machine."""

from __future__ import annotations

import ipaddress
import re

AFTER_THE_USER = re.compile(r"(://[^:/@\s]*):\S+@")  # to the last @: a password may hold what it should not
AS_A_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&\s]*", re.IGNORECASE)


def without_password(url: str) -> str:
    """The same URL, with stars for its password, wherever it stands.

    >>> without_password("postgresql://clerk:hush@db/shop?password=hush&sslmode=require")
    'postgresql://clerk:***@db/shop?password=***&sslmode=require'
    """
    return AS_A_PARAMETER.sub(r"\1***", AFTER_THE_USER.sub(r"\1:***@", url))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
