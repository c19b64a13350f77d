"""The first order that Helm prints works as it is printed."""

import asyncio
import json
import re
import subprocess
from typing import Any

import aiohttp
import pytest
import yaml

from orderplane.gateway.principal import Role

from ..support.plane import Merchant
from .helm import CHART, Helm

pytestmark = pytest.mark.charts


async def notes_of(helm: Helm, *options: str) -> str:
    done = await helm.run(
        "install", "orderplane", str(CHART), "--dry-run=client", "-n", "orderplane-system", *options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("NOTES:\n")[2]


async def test_the_catalogue_and_the_order_are_taken(helm: Helm, merchant: Merchant) -> None:
    """Its requests, as they are printed; a pod and a port-forward are all that a plane has not."""
    notes = await notes_of(helm)
    staff = await merchant.caller(Role.MERCHANT)
    sent = re.findall(r"(?ms)curl -f (?:-X (\w+) )?http://localhost:8080(\S+)(.*?)-d '(\{.*?\})'$", notes)
    assert [path for _, path, _, _ in sent] == [
        "/api/products", "/api/inventory/TEA-EARL-GREY-100/recounts", "/api/price-rules/EUR",
    ]  # fmt: skip
    async with aiohttp.ClientSession(merchant.plane.url("gateway"), headers=staff.headers) as http:
        for method, path, options, body in sent:
            document: dict[str, Any] = json.loads(body)
            # The demo's catalogue has the tea already.
            document |= {"sku": "TEA-OF-THE-NOTES"} if "sku" in document else {}
            headers = dict(re.findall(r"-H '(Idempotency-Key|Content-Type): (.*?)'", options))
            path = path.replace("TEA-EARL-GREY-100", "TEA-OF-THE-NOTES")  # noqa: PLW2901
            async with http.request(method or "POST", path, json=document, headers=headers) as answer:
                assert answer.status in (200, 201), await answer.text()
    order = yaml.safe_load(re.search(r"<<'EOF'\n(.*?)\nEOF", notes, re.DOTALL)[1])  # type: ignore[index]
    order["spec"]["items"][0]["sku"] = "TEA-OF-THE-NOTES"
    await kubectl(merchant, "apply", "-f", "-", stdin=json.dumps(order))
    wait = re.search(r"kubectl -n demo (wait .*my-first .*)", notes)[1]  # type: ignore[index]
    await kubectl(merchant, *wait.split())


async def kubectl(merchant: Merchant, *words: str, stdin: str | None = None) -> None:
    plane = merchant.plane
    done = await asyncio.to_thread(
        subprocess.run,
        [str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig("admin")), "-n", merchant.name, *words],
        input=stdin, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


async def test_they_name_what_the_values_name(helm: Helm) -> None:
    notes = await notes_of(
        helm, "--set", "fullnameOverride=shop,relay.secret=mine,gateway.service.port=81",
        "--set", "webhook.certificate.issuer=cert-manager",
    )  # fmt: skip
    assert "  mine\n" in notes
    assert "  shop-webhook-tls (cert-manager makes it)\n" in notes
    assert "service/shop-gateway 8080:81" in notes
    assert "orderplane-gateway" not in notes
