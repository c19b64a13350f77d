"""Every process is run in the same way: help, wrong settings, patience at start-up, signals, exit codes."""

import asyncio
import json
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from orderplane.adapters.postgres.migrate import migrate
from orderplane.adapters.settings import SECRETS_DIR, variables_of
from orderplane.adapters.webhook_endpoints.secrets import new_key as new_endpoint_key
from orderplane.dev.localplane import components
from orderplane.dev.localplane.credentials import Authority
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.supervisor import Supervisor
from orderplane.gateway.identity.keyring import new_key

from ..support.mounted import MountedSecret
from .conftest import SETTINGS, run_to_end, running

pytestmark = pytest.mark.integration

MIGRATIONS = resources.files("orderplane.ledgers") / "migrations"
QUICK = 5.0
"""Seconds in which a process that only waits has to end; they are long because the test machine is busy."""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Right settings for every process, with nothing at the addresses."""
    new_key(tmp_path / "keys")
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    certificate, key = Authority(tmp_path / "pki").serving("webhook")
    nowhere = f"http://127.0.0.1:{free_port()}"
    return {
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "ORDERPLANE_POSTGRES_DSN": f"postgresql://nobody:do-not-tell@127.0.0.1:{free_port()}/none",
        "ORDERPLANE_KAFKA": f"127.0.0.1:{free_port()}",
        "ORDERPLANE_SIGNING_KEYS": str(tmp_path / "keys"),
        "ORDERPLANE_PAYMENTS_URL": nowhere,
        "ORDERPLANE_PAYMENTS_KEY": "sk_test_do-not-tell",
        "ORDERPLANE_CARRIER_URL": nowhere,
        "ORDERPLANE_CARRIER_KEY": "EZTK_do-not-tell",
        "ORDERPLANE_CARRIER_SENDER": '{"street1": "1 Dock St", "city": "R", "zip": "3011", "country": "NL"}',
        "ORDERPLANE_WEBHOOK_CERT": str(certificate),
        "ORDERPLANE_WEBHOOK_KEY": str(key),
        "ORDERPLANE_ENDPOINT_KEYS": new_endpoint_key(),
    }


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[tuple[str, Supervisor, components.Component]]:
    """A PostgreSQL that is not started yet."""
    component, dsn = await asyncio.to_thread(components.postgres, tmp_path, free_port())
    async with Supervisor(tmp_path / "logs") as supervisor:
        yield dsn, supervisor, component
    components.remove_postgres(tmp_path)


@pytest.mark.parametrize("name", SETTINGS)
async def test_help_names_every_setting_and_needs_none(name: str) -> None:
    ended = await run_to_end(name, "--help", env={})
    assert (ended.code, ended.log) == (0, "")
    for variable in variables_of(SETTINGS[name]):
        assert variable.name in ended.out
        assert variable.description in ended.out


@pytest.mark.parametrize("name", SETTINGS)
async def test_wrong_settings_end_it_with_2_and_are_all_named(name: str) -> None:
    wrong = {"ORDERPLANE_METRICS_PORT": "many", "ORDERPLANE_LOG_LEVEL": "LOUD"}
    ended = await run_to_end(name, env={**wrong, "ORDERPLANE_POSTGRES_DSN": "mysql://x:do-not-tell@y"})
    assert ended.code == 2
    required = [each.name for each in variables_of(SETTINGS[name]) if each.default is None]
    for variable in (*wrong, *required):
        assert variable in ended.log
    assert "do-not-tell" not in ended.log
    assert "Traceback" not in ended.log


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "console"])
async def test_it_waits_for_postgresql_and_ends_when_it_is_told_to(name: str, env: dict[str, str]) -> None:
    async with running(name, env, host="127.0.0.2") as process:
        line = await process.logged("waiting", dependency="PostgreSQL")
        assert "do-not-tell" not in str(line)
        statuses = [await process.status(path) for path in ("/healthz", "/metrics", "/readyz")]
        assert statuses == [200, 200, 503]
        assert await process.ends(seconds=QUICK) == 0
        assert process.lines[-1]["event"] == "stopped during start-up"


async def test_who_needs_the_api_server_waits_for_it(
    env: dict[str, str], database: tuple[str, Supervisor, components.Component]
) -> None:
    dsn, supervisor, component = database
    await supervisor.start(component)
    await migrate(dsn)

    async def wait_and_end(name: str) -> None:
        async with running(name, {**env, "ORDERPLANE_POSTGRES_DSN": dsn}) as process:
            await process.logged("waiting", dependency="the API server")
            assert await process.status("/readyz") == 503
            assert await process.ends(seconds=QUICK) == 0

    await asyncio.gather(*(wait_and_end(name) for name in ("gateway", "operator", "webhook")))


async def test_it_serves_once_postgresql_is_there_and_migrated(
    env: dict[str, str], database: tuple[str, Supervisor, components.Component]
) -> None:
    dsn, supervisor, component = database
    async with running("relay", {**env, "ORDERPLANE_POSTGRES_DSN": dsn}) as relay:
        await relay.logged("waiting", dependency="PostgreSQL")
        await supervisor.start(component)
        names = sorted(file.name for file in MIGRATIONS.iterdir() if file.name.endswith(".sql"))
        why = (
            f"OlderSchema: the database is older than this version: it lacks {', '.join(names)}. "
            "Run: orderplane migrate"
        )
        await relay.logged("waiting", dependency="PostgreSQL", why=why)
        assert await relay.answer("/readyz") == (503, f"waiting for PostgreSQL: {why}\n")
        await migrate(dsn)
        await relay.logged("serving")
        assert await relay.ends(seconds=QUICK + 12) == 0
        assert relay.lines[-1]["event"] == "stopped"


async def test_it_changes_over_to_a_new_dsn_of_its_mounted_secret(
    env: dict[str, str], database: tuple[str, Supervisor, components.Component], tmp_path: Path
) -> None:
    """After ten seconds at most; the old role may be dropped then."""
    dsn, supervisor, component = database
    await supervisor.start(component)
    await migrate(dsn)
    parts = urlsplit(dsn)
    admin = await asyncpg.connect(dsn)
    dsns = []
    for role in ("first", "second"):
        await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}-do-not-tell'")
        await admin.execute(f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}")
        dsns.append(f"postgresql://{role}:{role}-do-not-tell@{parts.hostname}:{parts.port}{parts.path}")
    mounted = MountedSecret(tmp_path / "secrets", {"ORDERPLANE_POSTGRES_DSN": dsns[0]})
    more = {"ORDERPLANE_POSTGRES_DSN": "", SECRETS_DIR: str(mounted.folder)}
    async with running("relay", {**env, **more}) as relay:
        await relay.logged("serving")
        mounted.replace({"ORDERPLANE_POSTGRES_DSN": dsns[1]})
        await relay.logged("a secret was replaced", setting="ORDERPLANE_POSTGRES_DSN", is_used="now")
        async with asyncio.timeout(30):
            while {"second"} != {  # noqa: ASYNC110
                row["usename"]
                for row in await admin.fetch(
                    "SELECT usename FROM pg_stat_activity WHERE application_name LIKE 'relay%'"
                )
            }:
                await asyncio.sleep(0.1)
        assert "do-not-tell" not in str(relay.lines)
        await relay.ends(seconds=QUICK + 12)
    await admin.close()


@pytest.mark.parametrize("name", ["gateway", "operator", "webhook"])
async def test_without_a_kubeconfig_it_cannot_start(
    name: str, env: dict[str, str], database: tuple[str, Supervisor, components.Component]
) -> None:
    dsn, supervisor, component = database
    await supervisor.start(component)
    await migrate(dsn)
    more = {"KUBECONFIG": "/does/not/exist", "ORDERPLANE_POSTGRES_DSN": dsn}
    ended = await run_to_end(name, env={**env, **more, "ORDERPLANE_METRICS_PORT": "0"})
    assert ended.code == 2
    assert "KUBECONFIG" in ended.log


async def test_a_port_that_is_taken_ends_it_with_1(env: dict[str, str]) -> None:
    async with running("relay", env) as first:
        await first.logged("waiting")
        ended = await run_to_end("relay", env={**env, "ORDERPLANE_METRICS_PORT": str(first.port)})
    assert ended.code == 1
    assert "address already in use" in ended.log
