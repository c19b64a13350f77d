"""The address of a client, seen through the proxies that are trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

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
    peer = connection.client.host if connection.client else "unknown"
    hops = [hop.strip() for line in connection.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    return last_untrusted_hop([*hops, peer], trusted)


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
        if not any(parsed in network for network in trusted if network.version == parsed.version):
            return address
    return address
