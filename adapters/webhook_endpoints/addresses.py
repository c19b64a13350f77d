"""Which addresses requests to webhook endpoints may go to. Pure.

The lists are those of IANA, and not the answers of `ipaddress`, which differ between versions of Python.

Sources: https://www.iana.org/assignments/iana-ipv4-special-registry,
https://www.iana.org/assignments/iana-ipv6-special-registry, and RFC 6052, 2.1, for NAT64.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

HTTPS = 443

PUBLIC = "public"
"""The public internet, in a list of networks."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Where endpoints may be.

    Args:
        is_public: On port 443 of public addresses.
        inside: On any port in these networks.
    """

    is_public: bool
    inside: tuple[IPv4Network | IPv6Network, ...] = ()


_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24",
        "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols: Teredo, ORCHID, benchmarks
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4: any address of IPv4 is in it
        "2620:4f:8000::/48",
    )
)  # fmt: skip

_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")


def parse_networks(text: str) -> Networks:
    """Parse a list of networks such as `public, 10.0.0.0/8, fd00::/8`.

    Raises:
        ValueError: one of them is none.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return Networks(PUBLIC in parts, tuple(ip_network(part) for part in parts if part != PUBLIC))


def is_allowed(host: str, port: int, networks: Networks) -> bool:
    """Whether a connection may be made.

    Args:
        host: An address, as it is given to the socket; one of IPv6 perhaps with a zone.
    """
    try:
        address = _innermost(ip_address(host.partition("%")[0]))
    except ValueError:
        return False
    if any(address in network for network in networks.inside):
        return True
    return networks.is_public and port == HTTPS and "%" not in host and _is_public(address)


def _innermost(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address of IPv4 that packets to an address of IPv6 go to in the end, or the address itself."""
    if isinstance(address, IPv6Address) and (address in _MAPPED or address in _NAT64):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NOT_PUBLIC_6)
