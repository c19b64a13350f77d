"""What the trial of the chart takes from the overlay, and from which commit it starts."""

import subprocess
from pathlib import Path

import pytest

from orderplane.dev.node import command
from orderplane.dev.node.upgrade import surroundings, values

SETTINGS = {"ORDERPLANE_KAFKA": "kafka:9092", "ORDERPLANE_METRICS_HOST": "::"}
OVERLAY = [
    {"kind": "Namespace", "metadata": {"name": "demo"}},
    {"kind": "Secret", "metadata": {"name": "orderplane-gateway"}},
    {"kind": "Secret", "metadata": {"name": "orderplane-webhook-tls"}},
    {"kind": "PriorityClass", "metadata": {"name": "orderplane"}},
    {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "orderplane-gateway"}},
    {"kind": "Service", "metadata": {"name": "db", "labels": {"app.kubernetes.io/name": "orderplane-demo"}}},
    {"kind": "Service", "metadata": {"name": "own", "labels": {"app.kubernetes.io/name": "orderplane"}}},
    {
        "kind": "Job",
        "metadata": {"name": "products", "labels": {"app.kubernetes.io/name": "orderplane-demo"}},
        "spec": {"template": {"spec": {"containers": [{"image": "orderplane/sandbox:dev"}]}}},
    },
    {
        "kind": "ConfigMap",
        "metadata": {"name": "orderplane", "labels": {"app.kubernetes.io/name": "orderplane"}},
        "data": SETTINGS,
    },
]


def test_what_the_chart_installs_is_left_to_it() -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in surroundings(OVERLAY, "abc")]
    assert names == [
        ("Namespace", "demo"),
        ("Secret", "orderplane-gateway"),
        ("PriorityClass", "orderplane"),
        ("Service", "db"),
        ("Job", "products"),
    ]


def test_the_database_is_filled_by_the_version_that_is_installed_first() -> None:
    job = surroundings(OVERLAY, "abc")[-1]
    assert job["spec"]["template"]["spec"]["containers"] == [{"image": "orderplane/sandbox:abc"}]


def test_settings_that_the_chart_fixes_are_not_given_to_it() -> None:
    given = values(OVERLAY, "abc")
    assert (given["image"], given["settings"]) == ({"tag": "abc"}, {"ORDERPLANE_KAFKA": "kafka:9092"})


def test_the_earlier_commit_lacks_the_newest_migration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, checkout = tmp_path / "root", tmp_path / "earlier"
    migrations = root / "ledgers" / "migrations"
    migrations.mkdir(parents=True)

    def git(*words: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        done = subprocess.run(
            ["git", "-C", str(root), *identity, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    for name in ("0001.sql", "0002.sql"):
        (migrations / name).touch()
        git("add", ".")
        git("commit", "--quiet", "-m", name)
    (root / "later").touch()
    git("add", ".")
    git("commit", "--quiet", "-m", "later")
    monkeypatch.setattr(command, "project_root", lambda: root)
    tag = command.earlier_commit(checkout)
    assert git("rev-parse", "HEAD~2").startswith(tag)
    assert [each.name for each in (checkout / "ledgers" / "migrations").iterdir()] == ["0001.sql"]
    assert command.earlier_commit(checkout) == tag
