"""What the shape of the source tree promises, and no other tool looks after."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "orderplane"
NOT_CODE = {"docs", "scripts", "src", "tests"}
ONLY_DATA = {"manifests"}
FILE_BY_FILE = {"operator"}
"""Rooms with a name of the standard library: with an `__init__.py` in the checkout's root they would hide it
from whatever is started there."""

LONGEST = 400

FOREIGN = re.compile(
    r"(?<![\w.:])/(?:work|root|home/\w+|Users/\w+)/"  # a path of somebody's machine
    r"|files\.pythonhosted\.org|pypi\.org/simple|proxy\.golang\.org|repo1?\.maven\.(?:apache\.)?org"
    r"|https?://[\w.-]*(?:pypi|mirror|nexus|artifactory|devpi)[\w.-]*"
)


def tracked() -> tuple[Path, ...]:
    """The files that git keeps, without links and what is deleted in the work tree."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=30
    ).stdout.decode()
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


@cache
def rooms() -> frozenset[str]:
    """The top-level folders that hold code."""
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.suffix == ".py"}
    return frozenset(name for name in folders - NOT_CODE if (ROOT / name).is_dir())


def test_every_room_has_its_link() -> None:
    links = {path.name: path.readlink() for path in PACKAGE.iterdir() if path.is_symlink()}
    assert links == {name: Path("..") / ".." / name for name in (rooms() - FILE_BY_FILE) | ONLY_DATA}


@pytest.mark.parametrize("room", sorted(FILE_BY_FILE))
def test_a_room_that_is_linked_file_by_file_has_all_its_links(room: str) -> None:
    assert not (ROOT / room / "__init__.py").exists(), f"it would hide the standard library's {room}"
    assert (PACKAGE / room / "__init__.py").is_file(), "import-linter sees regular packages alone"
    links = {path.name: path.readlink() for path in (PACKAGE / room).iterdir() if path.is_symlink()}
    modules = {path.name for path in (ROOT / room).iterdir() if path.suffix == ".py"}
    assert links == {name: Path("..") / ".." / ".." / room / name for name in modules}


def test_no_module_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_nothing_names_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        text = path.read_bytes().decode(errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if match := FOREIGN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


def test_locks_name_packages_and_hashes_alone() -> None:
    locks = [path for path in tracked() if path.suffix == ".lock"]
    assert locks
    for lock in locks:
        for number, line in enumerate(lock.read_text().splitlines(), start=1):
            where = f"{lock.relative_to(ROOT)}:{number}: {line}"
            assert "://" not in line, where
            assert not line.lstrip().startswith(("--index", "--extra-index", "--find-links", "-i ")), where
        assert "--hash=sha256:" in lock.read_text(), lock.name
