from pathlib import Path

import pytest

from orderplane.adapters.package_files import package_files


def test_they_come_sorted_and_only_of_the_one_kind(tmp_path: Path) -> None:
    for name in ("0002_more.sql", "0001_initial.sql", "README.md"):
        (tmp_path / name).touch()
    assert [f.name for f in package_files(tmp_path, ".sql")] == ["0001_initial.sql", "0002_more.sql"]


@pytest.mark.parametrize("folder", [".", "absent"])
def test_a_package_without_them_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"\.sql"):
        package_files(tmp_path / folder, ".sql")
