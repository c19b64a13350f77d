"""docs/openapi.json breaks no client of the released document."""

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import find_oasdiff

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

DOCS = Path(__file__).parents[2] / "docs"
RELEASED, NOW = DOCS / "openapi.released.json", DOCS / "openapi.json"

Json = dict[str, Any]


@pytest.fixture(scope="module")
async def oasdiff() -> Path:
    return await find_oasdiff(ConsoleProgress())


async def broken(oasdiff: Path, before: Path, after: Path) -> set[str]:
    """The ids of the rules that the second document breaks."""
    process = await asyncio.create_subprocess_exec(
        oasdiff, "breaking", before, after, "--fail-on", "ERR", "--format", "json",
        "--allow-external-refs=false",
        stdout=asyncio.subprocess.PIPE, cwd=DOCS,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    # 1 says that there are some, more that it could not tell.
    assert process.returncode in (0, 1)
    found = {change["id"] for change in json.loads(out or b"[]")}
    assert bool(found) == bool(process.returncode), out.decode()
    return found


async def test_nothing_breaks_who_uses_the_last_release(oasdiff: Path) -> None:
    assert await broken(oasdiff, RELEASED, NOW) == set(), (
        "Clients of the last release would break. Keep what was there, or make it another version."
    )


def lose_a_route(document: Json) -> None:
    del document["paths"]["/api/orders/{order_id}/cancel"]


def lose_a_field(document: Json) -> None:
    view = document["components"]["schemas"]["OrderView"]
    del view["properties"]["phase"]
    view["required"].remove("phase")


def may_leave_a_field_out(document: Json) -> None:
    document["components"]["schemas"]["OrderView"]["required"].remove("phase")


def ask_for_more(document: Json) -> None:
    request = document["components"]["schemas"]["OrderRequest"]
    request["properties"]["greeting"] = {"type": "string"}
    request["required"].append("greeting")


def take_less(document: Json) -> None:
    document["components"]["schemas"]["OrderRequest"]["properties"]["items"]["maxItems"] = 3


def ask_for_a_parameter(document: Json) -> None:
    parameter = {"name": "warehouse", "in": "query", "required": True, "schema": {"type": "string"}}
    document["paths"]["/api/products"]["get"]["parameters"].append(parameter)


def lose_an_answer(document: Json) -> None:
    operation = document["paths"]["/api/orders"]["post"]
    operation["responses"]["201"] = operation["responses"].pop("202")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lose_a_route, "api-path-removed-without-deprecation"),
        (lose_a_field, "response-required-property-removed"),
        (may_leave_a_field_out, "response-property-became-optional"),
        (ask_for_more, "new-required-request-property"),
        (take_less, "request-property-max-items-decreased"),
        (ask_for_a_parameter, "new-required-request-parameter"),
        (lose_an_answer, "response-success-status-removed"),
    ],
)
async def test_what_would_break_them_is_seen(
    oasdiff: Path, tmp_path: Path, change: Callable[[Json], None], rule: str
) -> None:
    document = json.loads(RELEASED.read_text())
    changed = copy.deepcopy(document)
    change(changed)
    after = tmp_path / "openapi.json"
    after.write_text(json.dumps(changed))
    assert rule in await broken(oasdiff, RELEASED, after)


async def test_what_is_only_more_breaks_nobody(oasdiff: Path, tmp_path: Path) -> None:
    document = json.loads(RELEASED.read_text())
    document["paths"]["/api/more"] = {"get": copy.deepcopy(document["paths"]["/api/products"]["get"])}
    document["paths"]["/api/more"]["get"]["operationId"] = "more"
    schemas = document["components"]["schemas"]
    schemas["OrderView"]["properties"]["greeting"] = {"type": "string"}
    schemas["OrderRequest"]["properties"]["greeting"] = {"type": "string"}
    after = tmp_path / "openapi.json"
    after.write_text(json.dumps(document))
    assert await broken(oasdiff, RELEASED, after) == set()
