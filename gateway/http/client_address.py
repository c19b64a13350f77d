"""Where a request comes from, seen past the proxies that are trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

Networks = Sequence[IPv4Network | IPv6Network]


def networks(text: str) -> Networks:
    """Read a list such as `10.0.0.0/8, 192.0.2.7`.

    Raises:
        ValueError: one of them is no network.
    """
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def client_address(connection: HTTPConnection, trusted: Networks) -> str:
    """The peer; behind trusted proxies the right-most hop of X-Forwarded-For that is none of them.

    What stands further left was written by whoever is not trusted, and may be anything.
    """
    peer = connection.client.host if connection.client else "unknown"
    hops = [hop.strip() for line in connection.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    return past_proxies([*hops, peer], trusted)


def past_proxies(hops: Sequence[str], trusted: Networks) -> str:
    """The last of `hops` (the peer stands last) that is not trusted; the first where all are."""
    address = hops[-1]
    for hop in reversed(hops):
        try:
            parsed = ip_address(hop)
        except ValueError:
            # Whoever wrote this is the one that we know of.
            return address
        address = str(parsed)
        if not any(parsed in network for network in trusted if network.version == parsed.version):
            return address
    return address
