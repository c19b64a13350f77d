"""The first run of compose.yaml, on a real API server and database."""

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.postgres.pool import open_pool
from orderplane.crds.meta import Kind
from orderplane.dev.compose.first_run import (
    API_SERVER,
    ON_THE_HOST,
    SERVER_KUBECONFIG,
    install_all,
    main,
    make_credentials,
    write_kubeconfigs,
)
from orderplane.dev.demo.accounts import ADMINISTRATOR
from orderplane.dev.demo.products import GOODS, MERCHANT
from orderplane.dev.localplane.credentials import IDENTITIES
from orderplane.dev.localplane.plane import Plane
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.user_store import UserStore

from ...support.plane import bare_plane

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "compose.yaml"


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_credentials_are_drawn_once(tmp_path: Path) -> None:
    assert make_credentials(tmp_path)
    first = every_file(tmp_path)
    assert not make_credentials(tmp_path)
    assert every_file(tmp_path) == first


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        make_credentials(folder)
    first, second = every_file(one), every_file(other)
    # These name others, and have no secret of their own.
    named = {"admission.json", "webhook-caller.json"}
    shared = {name for name in first.keys() & second.keys() - named if first[name] == second[name]}
    assert shared == set()


def test_a_run_that_was_interrupted_begins_again(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    (tmp_path / "credentials.json").unlink()
    assert make_credentials(tmp_path)
    dsn = (tmp_path / "settings" / "ORDERPLANE_POSTGRES_DSN").read_text()
    assert (tmp_path / "postgres-password").read_text() in dsn


def test_nobody_else_reads_them_but_the_database_its_password(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes.pop("postgres-password") == 0o640
    assert set(modes.values()) == {0o600}


def test_the_webhook_serves_under_the_name_of_its_service(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    certificate = x509.load_pem_x509_certificate((tmp_path / "pki" / "webhook.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "webhook" in names.get_values_for_type(x509.DNSName)


def test_every_path_in_compose_is_one_that_the_first_run_writes(tmp_path: Path) -> None:
    make_credentials(tmp_path)
    (tmp_path / SERVER_KUBECONFIG).write_text(
        yaml.safe_dump(
            {"clusters": [{"cluster": {"certificate-authority-data": base64.b64encode(b"pem").decode()}}]}
        )
    )
    tokens = json.loads((tmp_path / "credentials.json").read_text())
    write_kubeconfigs(tmp_path, tmp_path / SERVER_KUBECONFIG, tokens)
    text = COMPOSE.read_text(encoding="utf-8")
    words = {word.strip("\",')") for word in text.replace("=", " ").replace(":", " ").split()}
    named = {
        word.removeprefix("/var/lib/orderplane/") for word in words if word.startswith("/var/lib/orderplane/")
    }
    assert {"tokens.csv", "signing-keys", "kubeconfigs/operator.yaml"} <= named
    assert {name for name in named if not (tmp_path / name).exists()} == set()


def test_each_identity_has_its_token_and_the_servers_authority(tmp_path: Path) -> None:
    server = tmp_path / "server.yaml"
    authority = base64.b64encode(b"-- the authority --").decode()
    server.write_text(yaml.safe_dump({"clusters": [{"cluster": {"certificate-authority-data": authority}}]}))
    write_kubeconfigs(tmp_path, server, {identity: f"token of {identity}" for identity in IDENTITIES})
    written = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "kubeconfigs").iterdir()}
    assert set(written) == set(IDENTITIES)
    for identity, document in written.items():
        cluster = document["clusters"][0]["cluster"]
        assert cluster["certificate-authority-data"] == authority
        assert cluster["server"].startswith("https://127.0.0.1:") == (identity == "merchant")
        assert document["users"][0]["user"]["token"] == f"token of {identity}"


def test_the_image_has_every_module_that_it_imports() -> None:
    """.dockerignore lets a part of dev/ into the build alone."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [Path(line.removeprefix("!")) for line in lines if line.startswith("!dev/")]
    listed = subprocess.run(
        [sys.executable, "-c", "import sys, orderplane.dev.compose.first_run\nprint(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    ours = [module.removeprefix("orderplane.") for module in listed if module.startswith("orderplane.dev.")]
    paths = [Path(*module.split(".")) for module in ours]
    files = [path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py") for path in paths]
    assert files
    assert [file for file in files if not any(file == each or each in file.parents for each in allowed)] == []


def test_the_kubeconfig_of_people_names_the_published_port() -> None:
    service = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["kubernetes"]
    assert service["ports"] == [f"{ON_THE_HOST.removeprefix('https://')}:{API_SERVER.rpartition(':')[2]}"]


@pytest.mark.parametrize("words", [[], ["credentials"], ["install"], ["both", "x"]])
def test_other_words_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("usage:")


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """A plane of its own: the first run says where the webhook is."""
    async with bare_plane(tmp_path_factory.mktemp("compose")) as plane:
        yield plane


@pytest.mark.integration
async def test_a_second_first_run_changes_nothing(cluster: Plane, tmp_path: Path) -> None:
    make_credentials(tmp_path)
    access = ROOT / "docs" / "examples" / "merchant-access.yaml"
    for _ in range(2):
        await install_all(
            tmp_path, cluster.postgres_dsn, admin=cluster.kubeconfig("admin"), merchant_access=access
        )
    pool = await open_pool(cluster.postgres_dsn, size=2)
    try:
        password = (tmp_path / "admin-password").read_text()
        found = await UserStore(pool).credentials(MERCHANT, ADMINISTRATOR)
        assert found is not None
        async with Passwords() as passwords:
            assert await passwords.matches(password, found[1])
        counted = await pool.fetchval("SELECT count(*) FROM stock WHERE merchant = $1", MERCHANT)
        assert counted == len(GOODS)
    finally:
        await pool.close()
    merchant = str(cluster.kubeconfig("merchant"))
    async with await ApiClient.connect(user_agent="tests", kubeconfig=merchant) as api:
        assert (await api.list_page(Kind.ORDER, MERCHANT)).items == []
