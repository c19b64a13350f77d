"""The CRD itself refuses what is no text, also from those who pass by the webhook."""

from collections.abc import Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import Invalid
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane

from ..support.plane import make_namespace
from .conftest import ADDRESS
from .texts import failing, passing

pytestmark = pytest.mark.integration

As = Callable[[str], ApiClient]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
async def namespace(plane: Plane) -> str:
    """One for all cases: what they make has names of its own."""
    return await make_namespace(plane)


@passing
async def test_text_is_stored_as_it_was_sent(
    as_: As, namespace: str, make: Make, field: str, text: str
) -> None:
    name = await make(Kind.ORDER, address={**ADDRESS, field: text})
    read = await as_("merchant").get(Kind.ORDER, namespace, name)
    assert read["spec"]["address"][field] == text


@failing
async def test_what_is_no_text_is_refused_and_not_repeated(
    as_: As, namespace: str, a_body: Make, field: str, text: str
) -> None:
    with pytest.raises(Invalid, match=r"spec\.address") as refused:
        await as_("gateway").create(
            Kind.ORDER, namespace, a_body(Kind.ORDER, address={**ADDRESS, field: text})
        )
    if len(text.strip()) > 2:
        assert text not in refused.value.message
