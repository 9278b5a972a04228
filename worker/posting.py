"""One POST to an address that somebody else chose: never to this machine or its network, never further, never for long.

The name is looked up once, every address that it has is judged, and the connection goes to one of those: a name that answers
differently the second time (DNS rebinding) is never asked a second time. Redirects are not followed. The answer's body is not read.
Certificates are checked against those that the machine trusts, or those in the file that SSL_CERT_FILE names, as OpenSSL reads it.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

LIMIT_SECONDS = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PORTS = {"http": 80, "https": 443}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class PostError(Exception):
    """It was not delivered; `final`: and never will be."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        """`message` tells why, for the one who chose the address."""
        super().__init__(message)
        self.final = final


def post_once(url: str, body: bytes, headers: Mapping[str, str], *, private: bool = False, limit: float = LIMIT_SECONDS) -> int:
    """Send `body` and return the status of the answer. `private` allows addresses that are not public; `limit` is in seconds.

    Raises PostError.
    """
    parts = _checked(url)
    port = parts.port or _PORTS[parts.scheme]
    addresses = _addresses_of(str(parts.hostname), port, private=private)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        with _connected(parts, addresses, port, limit) as connection:
            connection.request("POST", path, body=body, headers={"Host": _host_of(parts), "Connection": "close", **headers})
            return connection.getresponse().status
    except (OSError, http.client.error) as error:
        raise PostError(f"no answer: {error or type(error).__name__}") from error


def is_public(address: Address) -> bool:
    """Whether an address, and each one that is written inside it, belongs to the public network."""
    return all(inner.is_global and not inner.is_multicast for inner in _layers(address))


def _layers(address: Address) -> Iterator[Address]:
    """Yield what a packet to `address` may reach: itself, unless it only wraps an IPv4 one, and what it wraps."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    wrapped = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    found = [inner for inner in wrapped if inner is not None]
    yield from found or [address]


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_is_sound = parts.port is None or parts.port > 0
    except ValueError as error:
        raise PostError(f"not an address: {error}", final=True) from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None or not port_is_sound or not url.isascii():
        raise PostError("an address is http:// or https:// with a host, in ASCII and without a user's name", final=True)
    return parts


def _addresses_of(host: str, port: int, *, private: bool) -> list[str]:
    """Return the addresses of a host, those first that the system prefers, once all of them have been judged."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise PostError(f"{host} has no address: {error}") from error
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    inner = [address for address in addresses if not is_public(ipaddress.ip_address(address))]
    if inner and not private:
        raise PostError(f"{host} is at {inner[0]}, which is not public; SYNESTHESIA_WEBHOOK_PRIVATE=true allows it", final=True)
    return list(dict.fromkeys(addresses))


@contextlib.contextmanager
def _connected(parts: SplitResult, addresses: Sequence[str], port: int, limit: float) -> Iterator[http.client.HTTPConnection]:
    """Give a connection to one of `addresses`, cut off after `limit` seconds however busy it looks: a byte a second is no answer."""
    channel = _reached(addresses, port, limit)
    if parts.scheme == "https":
        channel = _wrapped(channel, str(parts.hostname))
    watch = threading.Timer(limit, _cut, [channel])
    watch.daemon = True
    watch.start()
    try:
        if isinstance(channel, ssl.SSLSocket):
            channel.do_handshake()
        connection = http.client.HTTPConnection(addresses[0], port, timeout=limit)
        connection.sock = channel
        yield connection
    finally:
        watch.cancel()
        channel.close()


def _reached(addresses: Sequence[str], port: int, limit: float) -> socket.socket:
    """Connect to the first address that takes a connection, within `limit` seconds in all: `localhost` is ::1 too, where few listen.

    Raises OSError, that of the last address.
    """
    for address in addresses[:-1]:
        with contextlib.suppress(OSError):
            return _opened(address, port, limit / len(addresses), limit)
    return _opened(addresses[-1], port, limit / len(addresses), limit)


def _opened(address: str, port: int, connect_limit: float, limit: float) -> socket.socket:
    channel = socket.create_connection((address, port), timeout=connect_limit)
    channel.settimeout(limit)
    return channel


def _wrapped(channel: socket.socket, host: str) -> ssl.SSLSocket:
    """Return the channel, its handshake yet to come, which checks the certificate against the name, not against the address."""
    return ssl.create_default_context().wrap_socket(channel, server_hostname=host, do_handshake_on_connect=False)


def _cut(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)


def _host_of(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
