"""The network of a node, in a namespace: nothing outside reaches it, and it reaches nothing outside."""

import subprocess
from pathlib import Path

ADDRESS = "192.168.77.1"
"""Of the node, its API server, and CoreDNS."""

_GATEWAY = "192.168.77.254"
POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.0.0.0/24"
DOMAIN = "cluster.local"
NAMESERVER = f"search svc.{DOMAIN} {DOMAIN}\nnameserver {ADDRESS}\noptions ndots:5\n"
"""A resolv.conf by which programs on the node find Services as pods do."""


def set_up() -> None:
    """Give the present network namespace its one address."""
    for command in (
        "ip link set lo up",
        # Not of type dummy, which not every kernel has.
        "ip link add node0 type veth peer name node0p",
        "ip link set node0p up",
        f"ip addr add {ADDRESS}/24 dev node0",
        "ip link set node0 up",
        # kube-proxy and the kubelet take the address of the default route. Nothing answers there.
        f"ip route add default via {_GATEWAY} dev node0",
    ):
        subprocess.run(command.split(), check=True, timeout=10)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
