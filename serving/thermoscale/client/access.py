"""Keys and certificates: how a client shows who it is, and knows the server."""

import ipaddress
import ssl
from pathlib import Path

from thermoscale.errors import InvalidInput

UNTRUSTED = "the server's certificate is not trusted ({}): give that of its authority as ca= (--ca)"


def authorization(key: str | None, host: str, *, tls: bool) -> dict[str, str]:
    """The header with the key, nothing without one; a key never leaves this machine in the clear.

    Raises:
        InvalidInput: a key that cannot be one, or a connection to another machine without TLS.
    """
    if key is None:
        return {}
    if not key or not all("!" <= character <= "~" for character in key):
        raise InvalidInput("the key is empty or holds other characters than printable ASCII without spaces")
    if not tls and not _is_loopback(host):
        raise InvalidInput(f"the key would travel unencrypted to {host}: use https")
    return {"authorization": f"Bearer {key}"}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tls_context(ca: Path | str | None, *, tls: bool) -> ssl.SSLContext | None:
    """How the server proves who it is; None without TLS.

    Raises:
        InvalidInput: ``ca`` is no file of certificates, or is given without TLS.
    """
    if not tls:
        if ca is not None:
            raise InvalidInput("a certificate authority (ca) is given for an http address: use https")
        return None
    try:
        return ssl.create_default_context(cadata=read_ca(ca).decode("ascii") if ca else None)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{ca} holds no PEM certificates: {error}") from error


def read_ca(path: Path | str) -> bytes:
    """The certificates in ``path``.

    Raises:
        InvalidInput: unreadable.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read the certificates in {path}: {error.strerror}") from error
