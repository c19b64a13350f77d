"""Which addresses requests to webhook endpoints may go to."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.adapters.webhook_endpoints.addresses import is_allowed, parse_networks

PUBLIC = parse_networks("public")
ADDRESSES = [
    "8.8.8.8", "1.1.1.1", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0",
    "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
]  # fmt: skip
NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3",  # noqa: S104
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7",
    "203.0.113.9", "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    # An address of IPv4 in one of IPv6: mapped, compatible, NAT64, its local prefix, 6to4, Teredo, ISATAP.
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::7f00:1",
    "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8",
    "2002:7f00:1::1", "2002:a00:1::1", "2002:808:808::1", "2001::1", "2001:0:7f00:1::", "fe80::5efe:7f00:1",
    "2001:db8::1", "3fff::1", "5f00::1", "100::1", "2001:2::1", "2001:20::1", "::ffff:0:127.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("host", ADDRESSES)
def test_a_public_address_is_allowed_on_the_port_of_https_alone(host: str) -> None:
    assert is_allowed(host, 443, PUBLIC)
    for port in (80, 8443, 22, 6379, 9200):
        assert not is_allowed(host, port, PUBLIC)


@pytest.mark.parametrize("host", NOT_PUBLIC)
def test_no_other_address_is(host: str) -> None:
    assert not is_allowed(host, 443, PUBLIC)


@pytest.mark.parametrize(
    "host", ["localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "", "1.2.3.4."]
)
def test_what_is_no_address_is_not_connected_to(host: str) -> None:
    assert not is_allowed(host, 443, parse_networks("0.0.0.0/0, ::/0"))


def test_networks_are_allowed_with_every_port_and_nothing_beside_them() -> None:
    networks = parse_networks("public, 127.0.0.0/8, fd00::/8")
    assert is_allowed("127.0.0.1", 8080, networks)
    assert is_allowed("::ffff:127.0.0.1", 8080, networks), "it is the same address"
    assert is_allowed("fd00::7", 80, networks)
    assert not is_allowed("10.0.0.1", 8080, networks)
    assert not is_allowed("8.8.8.8", 8080, networks)
    assert is_allowed("8.8.8.8", 443, networks)
    assert not is_allowed("8.8.8.8", 443, parse_networks("127.0.0.0/8")), "public has to be named"


@given(st.ip_addresses(v=4))
def test_python_never_knows_an_allowed_address_as_a_private_one(address: IPv4Address) -> None:
    if is_allowed(str(address), 443, PUBLIC):
        assert address.is_global
        assert not (
            address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        )


@given(st.ip_addresses(v=6))
def test_nor_one_of_ipv6(address: IPv6Address) -> None:
    if is_allowed(str(address), 443, PUBLIC) and address.ipv4_mapped is None:
        assert not (
            address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        )


@given(st.ip_addresses(v=4))
def test_an_address_of_ipv4_is_judged_alike_in_every_form(address: IPv4Address) -> None:
    plain = is_allowed(str(address), 443, PUBLIC)
    assert is_allowed(f"::ffff:{address}", 443, PUBLIC) == plain
    assert is_allowed(f"64:ff9b::{address}", 443, PUBLIC) == plain
    assert not is_allowed(str(IPv6Address(0x2002 << 112 | int(address) << 80 | 1)), 443, PUBLIC)
