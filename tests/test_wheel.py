"""What a user installs: the wheel, in an environment of its own, outside the checkout."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from orderplane.dev.localplane.plane import Plane

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parent.parent

PROCESSES = (
    "gateway",
    "console",
    "operator",
    "webhook",
    "workers.relay",
    "workers.notifier",
    "workers.deliverer",
)

INSTALLED = {
    "CustomResourceDefinition": {
        "orders.orderplane.dev", "payments.orderplane.dev", "reservations.orderplane.dev",
        "shipments.orderplane.dev",
    },
    "ClusterRole": {f"orderplane:{name}" for name in ("operator", "gateway", "webhook", "audit", "merchant")},
    "ClusterRoleBinding": {f"orderplane:{name}" for name in ("operator", "gateway", "webhook", "audit")},
    "MutatingWebhookConfiguration": {"orderplane-webhook"},
    "PriorityLevelConfiguration": {"orderplane-gateway", "orderplane-operator"},
    "FlowSchema": {"orderplane-gateway", "orderplane-operator"},
    "ValidatingAdmissionPolicy": {
        "orderplane-presets", "orderplane-operator-only", "orderplane-standalone-reservations",
        "orderplane-new-orders", "orderplane-actors",
        "orderplane-drain",
    },
    "ValidatingAdmissionPolicyBinding": {
        "orderplane-presets", "orderplane-operator-only", "orderplane-standalone-reservations",
        "orderplane-new-orders", "orderplane-actors",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Installation:
    """The wheel, the sources it was built from, and the environment it is installed in."""

    wheel: Path
    source: Path
    environment: Path

    async def run(
        self, program: str, *words: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the environment's programs, with nothing of the checkout around it."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ORDERPLANE_", "PYTHON"))
        }
        return await asyncio.to_thread(
            subprocess.run,
            [self.environment / "bin" / program, *words],
            env={**clean, "COLUMNS": "200", **(env or {})},
            cwd=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Build from a copy: setuptools would add what an earlier build left in the checkout's build/."""
    folder = tmp_path_factory.mktemp("wheel")
    source, environment = folder / "source", folder / "environment"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    _python("-c", "from setuptools import build_meta; build_meta.build_wheel('dist')", cwd=source)
    (wheel,) = (source / "dist").glob("*.whl")
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    _python(
        "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check",
        "--no-index", "--no-deps", "--no-compile", str(wheel), cwd=folder,
    )  # fmt: skip
    # The dependencies are those of this environment. Its own .pth files are not read from there, so the
    # editable installation of the checkout stays out.
    (packages,) = (environment / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installation(wheel, source, environment)


def _python(*words: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_all_data_files_and_nothing_of_dev(installation: Installation) -> None:
    package = installation.source / "src" / "orderplane"
    needed = {
        str(path.relative_to(package.parent))
        for path in package.rglob("*")
        if path.is_file()
        and path.suffix not in (".md", ".pyc", ".yml")  # kustomize reads a checkout
        and "dev" not in path.relative_to(package).parts
    }
    with zipfile.ZipFile(installation.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == needed
    assert {Path(name).suffix for name in names} >= {".yaml", ".sql", ".json", ".html", ".sms", ".txt"}


async def test_the_command_offers_nothing_of_dev(installation: Installation) -> None:
    script = "import orderplane; print(orderplane.__file__)"
    where = await installation.run("python", "-c", script)
    assert Path(where.stdout.strip()).is_relative_to(installation.environment), where.stderr
    shown = await installation.run("orderplane", "--help")
    assert shown.returncode == 0, shown.stderr
    commands = {
        line.split()[1] for line in shown.stdout.splitlines() if line.startswith("│ ") and line[2] != " "
    }
    assert {"orders", "audit", "migrate", "crds"} <= commands
    assert commands.isdisjoint({"dev", "demo", "bench"})


async def test_it_installs_into_a_cluster(installation: Installation, plane: "Plane") -> None:
    from orderplane.adapters.kubernetes.install import install, shipped_manifests

    env = {"KUBECONFIG": str(plane.kubeconfig("admin"))}
    try:
        done = await installation.run("orderplane", "crds", "install", "--with-policies", env=env)
    finally:
        # Other tests need the webhook at the URL that the local plane gave it.
        await install(
            shipped_manifests(with_policies=True),
            kubeconfig=plane.kubeconfig("admin"),
            webhook=plane.webhook_target,
        )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        f"{kind}/{name}" for kind, names in INSTALLED.items() for name in names
    }


async def test_it_migrates_a_fresh_database(installation: Installation, plane: "Plane") -> None:
    import asyncpg

    name = f"wheel_{secrets.token_hex(4)}"
    dsn = urlsplit(plane.postgres_dsn)._replace(path=f"/{name}").geturl()
    connection = await asyncpg.connect(plane.postgres_dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
        first, again = [
            await installation.run("orderplane", "migrate", env={"ORDERPLANE_POSTGRES_DSN": dsn})
            for _ in range(2)
        ]
        await connection.execute(f"DROP DATABASE {name}")
    finally:
        await connection.close()
    assert first.returncode == 0, first.stderr
    assert "migrations applied" in first.stdout
    assert again.stdout == "Up to date.\n"


async def test_each_process_says_which_settings_it_needs(installation: Installation) -> None:
    # The console needs none.
    needy = [process for process in PROCESSES if process != "console"]
    done = await asyncio.gather(
        *(installation.run("python", "-m", f"orderplane.{process}.main") for process in needy)
    )
    for process, result in zip(needy, done, strict=True):
        assert result.returncode == 2, (process, result.stderr)
        assert "ORDERPLANE_" in result.stdout + result.stderr, process
        assert "Traceback" not in result.stderr, process
