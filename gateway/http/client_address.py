"""The address of a client, seen through the proxies that are trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

MAX_HOPS = 32
"""How many hops of X-Forwarded-For are looked at, from the right: who sends it may write thousands."""

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
    forwarded = ",".join(connection.headers.getlist("x-forwarded-for"))
    hops = [hop.strip() for hop in forwarded.rsplit(",", MAX_HOPS)[-MAX_HOPS:]]
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
