"""A client generated from docs/openapi.json: sets are enums, times are datetimes, problems have a type."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType

from orderplane.gateway.openapi import example_of

from .test_document import CLOSED, DOCUMENT, SCHEMAS, operations

PATH = Path(__file__).parents[2] / "docs" / "openapi.json"
NAME = "generated_orderplane_client"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package, as the generator writes it and says nothing."""
    folder = tmp_path_factory.mktemp("generated")
    config = Config.from_sources(
        # Its hooks would only format the code.
        ConfigFile(post_hooks=[]),
        MetaType.NONE,
        document_source=PATH,
        file_encoding="utf-8",
        overwrite=True,
        output_path=folder / NAME,
    )
    assert [f"{problem.header} {problem.detail}" for problem in generate(config=config)] == []
    sys.path.insert(0, str(folder))
    yield importlib.import_module(NAME)
    sys.path.remove(str(folder))


def models(client: ModuleType) -> ModuleType:
    return importlib.import_module(f"{client.__name__}.models")


def answering(client: ModuleType, status: int, body: Any) -> Any:
    """A client whose server always answers this."""

    def answer(_: httpx.Request) -> httpx.Response:
        kind = "application/json" if status < 400 else "application/problem+json"
        return httpx.Response(status, content=json.dumps(body), headers={"Content-Type": kind})

    found = client.AuthenticatedClient(base_url="http://test", token="t")
    return found.set_httpx_client(httpx.Client(base_url="http://test", transport=httpx.MockTransport(answer)))


def call(client: ModuleType, name: str) -> ModuleType:
    return importlib.import_module(f"{client.__name__}.api.orders.{name}")


@pytest.mark.parametrize(("name", "values"), CLOSED.items(), ids=CLOSED)
def test_a_closed_set_is_an_enum(client: ModuleType, name: str, values: list[str]) -> None:
    found = getattr(models(client), name)
    assert issubclass(found, Enum)
    assert sorted(member.value for member in found) == sorted(str(value) for value in values)


def test_every_operation_has_a_function(client: ModuleType) -> None:
    folder = Path(str(client.__file__)).parent / "api"
    functions = {path.stem for path in folder.glob("*/*.py")} - {"__init__"}
    assert functions == {
        re.sub(r"\W+", "_", operation["operationId"]).lower() for _, operation in operations()
    }


def test_an_order_has_an_enum_for_its_phase_and_times(client: ModuleType) -> None:
    example = example_of({"$ref": "#/components/schemas/OrderView"}, SCHEMAS)
    order = call(client, "read_order").sync("o-1", client=answering(client, 200, example))
    assert order.phase is models(client).OrderPhase(example["phase"])
    assert isinstance(order.created_at, datetime)
    assert order.created_at.tzinfo is not None
    assert [type(condition.last_transition_time) for condition in order.conditions] == [datetime]
    assert json.loads(json.dumps(order.to_dict()).replace("+00:00", "Z")) == example


@pytest.mark.parametrize("code", ["too_late_to_cancel", "already_finished"])
def test_a_problem_has_a_type(client: ModuleType, code: str) -> None:
    content = DOCUMENT["paths"]["/api/orders/{order_id}/cancel"]["post"]["responses"]["409"]["content"]
    ((kind, told),) = content.items()
    assert kind == "application/problem+json"
    body = told["examples"][code]["value"]
    problem = call(client, "cancel_order").sync("o-1", client=answering(client, 409, body))
    assert isinstance(problem, models(client).ProblemView)
    assert (problem.code, problem.status) == (code, 409)
