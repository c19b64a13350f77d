"""What looks for open orders before an uninstall."""

from pathlib import Path

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.settings import SECRETS_DIR
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane

from ..cli.terminal import orderplane
from ..crds.conftest import order_body
from .helm import Helm, by_name

pytestmark = pytest.mark.charts


async def test_an_open_order_stops_the_uninstall_and_is_named(
    helm: Helm, plane: Plane, namespace: str, tmp_path: Path
) -> None:
    """The Job's command, with its ServiceAccount's rights and the one value that it mounts."""
    job = by_name(await helm.template())["Job", "orderplane-open-orders"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    spec = job["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "orderplane-audit"
    words = spec["containers"][0]["args"]
    [secret] = [each["secret"] for each in spec["volumes"] if "secret" in each]
    for item in secret["items"]:
        (tmp_path / item["path"]).write_text(plane.env("admin")[item["key"]])
    env = {"KUBECONFIG": str(plane.kubeconfig("audit")), SECRETS_DIR: str(tmp_path)}

    before = await orderplane(*words, env=env)
    while before.code == 5:  # try again: the API server has just started
        before = await orderplane(*words, env=env)
    assert (before.code, before.out) == (0, "Drained: every order is sealed.\n"), before.err
    async with await ApiClient.connect(
        user_agent="tests", kubeconfig=str(plane.kubeconfig("gateway"))
    ) as gateway:
        made = await gateway.create(Kind.ORDER, namespace, order_body(namespace))
    after = await orderplane(*words, env=env)
    name = made["metadata"]["name"]
    assert (after.code, after.out) == (1, f"1 orders are open: {namespace}/{name} (Pending).\n"), after.err
