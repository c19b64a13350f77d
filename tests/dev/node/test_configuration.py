"""The configuration of a node, as the programs read it."""

import json
import re
import tomllib
from pathlib import Path

from orderplane.dev.localplane.kafka import KAFKA
from orderplane.dev.node import configuration, network
from orderplane.dev.node.images import IMAGES, PAUSE

ROOT = Path(__file__).resolve().parents[3]
STATE = Path("/state")


def test_containerd_finds_the_pause_image_the_plugins_and_the_network() -> None:
    document = tomllib.loads(configuration.containerd(STATE, Path("/cni"), PAUSE))
    cri = document["plugins"]["io.containerd.grpc.v1.cri"]
    assert document["version"] == 2
    assert cri["sandbox_image"] == PAUSE
    assert cri["cni"] == {"bin_dir": "/cni", "conf_dir": "/state/cni"}
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": False}


def test_the_runtime_and_the_kubelet_agree() -> None:
    runtime = tomllib.loads(configuration.containerd(STATE, Path("/cni"), PAUSE))
    kubelet = json.loads(
        configuration.kubelet(STATE, Path("/ca.crt"), Path("/kubelet.crt"), Path("/kubelet.key"))
    )
    assert kubelet["containerRuntimeEndpoint"] == f"unix://{runtime['grpc']['address']}"
    # The other driver needs systemd.
    assert kubelet["cgroupDriver"] == "cgroupfs"


def test_the_kubelet_lets_nobody_in_without_credentials() -> None:
    kubelet = json.loads(
        configuration.kubelet(STATE, Path("/ca.crt"), Path("/kubelet.crt"), Path("/kubelet.key"))
    )
    assert kubelet["authentication"]["anonymous"] == {"enabled": False}
    assert kubelet["authorization"] == {"mode": "Webhook"}
    assert kubelet["readOnlyPort"] == 0


def test_pods_and_the_node_ask_the_same_server_for_names() -> None:
    kubelet = json.loads(configuration.kubelet(STATE, Path("/a"), Path("/b"), Path("/c")))
    assert f"bind {kubelet['clusterDNS'][0]}\n" in configuration.coredns(Path("/coredns.yaml"))
    assert f"nameserver {kubelet['clusterDNS'][0]}\n" in network.NAMESERVER


def test_kube_proxy_leaves_the_sysctls_of_the_machine_alone() -> None:
    proxy = json.loads(configuration.kube_proxy(Path("/kube-proxy.yaml")))
    assert set(proxy["conntrack"].values()) == {0, "0s"}
    assert proxy["clusterCIDR"] == network.POD_RANGE


def test_every_image_has_a_target_and_every_target_is_built() -> None:
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    [listed] = re.findall(r"^TARGETS=\((.*)\)$", (ROOT / "scripts" / "image").read_text(), re.MULTILINE)
    assert set(IMAGES) == set(listed.split())
    assert set(IMAGES) <= set(targets)


def test_the_images_have_the_kafka_and_the_postgres_of_the_local_plane() -> None:
    assert f"ARG KAFKA_VERSION={KAFKA}\n" in (ROOT / "Dockerfile").read_text()
    pinned = (ROOT / "dev" / "tools" / "postgres.lock").read_text().splitlines()
    assert set(pinned) <= set((ROOT / "requirements-dev.lock").read_text().splitlines())
