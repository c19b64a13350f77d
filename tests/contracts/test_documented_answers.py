"""schemathesis: every response to any request of any role is as docs/openapi.json says."""

import asyncio
import sys
from pathlib import Path

import pytest

from orderplane.gateway.principal import Role

from ..support.plane import Merchant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(290)]

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
CONFIG = Path(__file__).with_name("schemathesis.toml")
SEED = "20261"
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
    "unsupported_method", "allow_header_conformance",
)  # fmt: skip

PHASES = {
    Role.CUSTOMER: "examples,coverage,fuzzing",
    Role.MERCHANT: "examples,coverage,fuzzing",
    # They pass the same checks of a request as a merchant's staff: enough that each answer was seen once.
    Role.ADMIN: "examples,fuzzing",
    Role.SERVICE: "examples,fuzzing",
    # Nearly everything is answered with 401.
    None: "examples",
}

GOODBYES = ("delete_profile", "end_logins", "change_password")
"""Whoever calls one of these is nobody afterwards: each gets a caller of its own."""


async def attack(merchant: Merchant, role: Role | None, *filters: str) -> None:
    """Up to 1,700 requests; whatever is wrong is printed with the command that repeats it."""
    caller = await merchant.caller(role) if role else None
    sent = merchant.from_own_address | (caller.headers if caller else {})
    headers = [part for name, value in sent.items() for part in ("--header", f"{name}: {value}")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, "run", DOCUMENT,
        "--url", merchant.plane.url("gateway"),
        *headers, *filters, "--phases", PHASES[role], "--checks", ",".join(CHECKS),
        "--seed", SEED, "--max-examples", "3", "--generation-database", "none", "--continue-on-failure",
        "--request-timeout", "20", "--no-color",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=merchant.plane.state,
    )  # fmt: skip
    try:
        found, _ = await asyncio.wait_for(process.communicate(), 240)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, found.decode()


@pytest.mark.parametrize("role", [*Role, None])
async def test_every_answer_is_documented(merchant: Merchant, role: Role | None) -> None:
    # They are the same for everybody who is logged in.
    goodbyes = {Role.CUSTOMER: GOODBYES, None: ()}.get(role, GOODBYES[:1])
    others = [part for name in GOODBYES if role for part in ("--exclude-operation-id", name)]
    async with asyncio.TaskGroup() as group:
        group.create_task(attack(merchant, role, *others))
        for name in goodbyes:
            group.create_task(attack(merchant, role, "--include-operation-id", name))
