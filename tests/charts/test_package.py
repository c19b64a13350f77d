"""The chart as others get it: linted, and in an archive without what is not its own."""

import tarfile
from pathlib import Path

import pytest
import yaml

from orderplane import __version__

from .helm import CHART, PRODUCTION, Helm, parsed

pytestmark = pytest.mark.charts


async def test_helm_finds_nothing_to_complain_about(helm: Helm) -> None:
    for options in ((), ("-f", str(PRODUCTION))):
        done = await helm.run("lint", "--strict", str(CHART), *options)
        assert done.returncode == 0, done.stdout
        assert "[WARNING]" not in done.stdout


async def test_the_archive_has_the_files_behind_the_links_and_no_code(helm: Helm, tmp_path: Path) -> None:
    done = await helm.run("package", str(CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    archive = tmp_path / f"orderplane-{__version__}.tgz"
    with tarfile.open(archive) as packed:
        names = {name.removeprefix("orderplane/") for name in packed.getnames()}
    assert {"files/crds/order.yaml", "files/manifests/10-rbac.yaml", "values.schema.json"} <= names
    assert not [name for name in names if name.endswith((".py", ".yml", ".pyc"))]
    assert parsed(await helm.text(chart=archive)) == parsed(await helm.text())


def test_chart_and_product_have_one_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert about["version"] == about["appVersion"] == __version__
    assert "dependencies" not in about
