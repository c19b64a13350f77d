"""The address of a client, seen through the proxies that are trusted."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

MAX_HOPS = 32
"""How many hops of X-Forwarded-For are looked at, from the right: who sends it may write thousands."""

_MAX_REMEMBERED = 8192
_MAX_REMEMBERED_BYTES = 256

Networks = Sequence[IPv4Network | IPv6Network]


def networks(text: str) -> Networks:
    """Parse a list of networks such as `10.0.0.0/8, 192.0.2.7`.

    Raises:
        ValueError: one of them is not a network.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def client_address(connection: HTTPConnection, trusted: Networks) -> str:
    """The address of the peer; behind trusted proxies, the right-most untrusted hop of X-Forwarded-For.

    A proxy appends the address that it was called from. Everything to the left of the last untrusted hop was
    sent by the client and may be forged.
    """
    return last_untrusted_hop(_hops(*_peer_and_forwarded(connection)), trusted)


class Subscribers:
    """Finds whom requests count for: the subscriber of each client's address.

    What was found is remembered, because a client comes back and addresses are slow to parse.
    """

    def __init__(self, trusted: Networks) -> None:
        @lru_cache(maxsize=_MAX_REMEMBERED)
        def find(peer: str, forwarded: bytes) -> str:
            return subscriber(last_untrusted_hop(_hops(peer, forwarded), trusted))

        self._find = find

    def of(self, connection: HTTPConnection) -> str:
        """The subscriber."""
        peer, forwarded = _peer_and_forwarded(connection)
        is_short = len(forwarded) <= _MAX_REMEMBERED_BYTES
        return self._find(peer, forwarded) if is_short else self._find.__wrapped__(peer, forwarded)


def _peer_and_forwarded(connection: HTTPConnection) -> tuple[str, bytes]:
    client = connection.scope.get("client")
    forwarded = [value for name, value in connection.scope["headers"] if name == b"x-forwarded-for"]
    return client[0] if client else "unknown", b",".join(forwarded)


def _hops(peer: str, forwarded: bytes) -> list[str]:
    hops = forwarded.decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]
    return [*(hop.strip() for hop in hops), peer]


def last_untrusted_hop(hops: Sequence[str], trusted: Networks) -> str:
    """The last of `hops` (the peer comes last) that is not trusted; the first one if all are trusted."""
    address = hops[-1]
    for hop in reversed(hops):
        try:
            parsed = ip_address(hop)
        except ValueError:
            # Not an address, so nothing further left can be trusted: count the hop that sent it.
            return address
        address = str(parsed)
        if not is_trusted(address, trusted):
            return address
    return address


def is_trusted(address: str, trusted: Networks) -> bool:
    """Whether the address is in one of the networks."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted if network.version == parsed.version)


def subscriber(address: str) -> str:
    """Whom an address stands for when something is counted.

    It is the /64 network for IPv6, because each subscriber has at least one /64.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((int(parsed) >> 64 << 64, 64)))
