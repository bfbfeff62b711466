"""What a POST goes by: the address, the token, and when a server wants to be asked again."""

import os
import re
import time
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ...errors import Argument, DataError
from .secure import read_secret

TOKEN_VARIABLE = "EDGEAE_POST_TOKEN"
LONGEST_WAIT = 3600.0
"""Most seconds that a server's ``Retry-After`` counts."""


class Address(NamedTuple):
    """Where to post to; as text without the query, which may hold a secret."""

    host: str
    port: int
    path: str
    """With the query."""
    is_tls: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a URL.

        Raises:
            DataError: it is none to post to, or names a user.
        """
        if "@" in url:
            raise DataError(
                Argument("post"),
                ": user and password do not belong in the address, which everybody can see; use ",
                Argument("token_file"),
                f", or {TOKEN_VARIABLE}",
            )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if host is None or parts.scheme not in ("http", "https") or not re.fullmatch(r"[!\"$-~]+", url):
            raise DataError(
                Argument("post"),
                f": expected https://HOST[:PORT]/PATH or http://…, found {url.partition('?')[0]!r}",
            )
        is_tls = parts.scheme == "https"
        path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        return cls(host, port or (443 if is_tls else 80), path, is_tls)

    def __str__(self) -> str:
        """Return it for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' * self.is_tls}://{host}:{self.port}{self.path.partition('?')[0]}"

    @property
    def is_own(self) -> bool:
        """Return whether it is this machine's."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def bearer_token(file: Path | None, address: Address) -> str | None:
    """Return the token in a file, else that of the environment, else None.

    Raises:
        DataError: there is none in the file, it has other than visible ASCII characters, or it would go over
            the network unencrypted (RFC 6750 forbids it).
    """
    token = os.environ.get(TOKEN_VARIABLE) if file is None else read_secret(file)
    if token is None:
        return None
    if not re.fullmatch("[!-~]+", token):
        raise DataError(f"{file or TOKEN_VARIABLE}: expected one line with a token, without spaces")
    if not (address.is_tls or address.is_own):
        raise DataError(
            Argument("post"),
            f": {address} would get the token unencrypted; post to https://…, or without a token",
        )
    return token


def retry_after(value: str | None) -> float:
    """Return the seconds that a ``Retry-After`` asks for, 0 where it says nothing that can be read."""
    if value is None:
        return 0.0
    try:
        if re.fullmatch(r" *[0-9]+ *", value):
            seconds = float(value)
        else:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT)
