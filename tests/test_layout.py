"""What the shape of the source tree promises, and no other tool looks after."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "orderplane"
NOT_CODE = {"docs", "scripts", "src", "tests"}
ONLY_DATA = {"manifests"}
LONGEST = 400
LONGER = {"ledgers/model.py": 600}
"""One model of every ledger, read beside the SQL."""

INSIDE_OPERATOR = {"adapters", "controllers", "crds", "events", "ledgers", "operator"}
"""What the operator may import; import-linter does not see a folder that is no regular package."""

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


def imported(source: str) -> Iterator[str]:
    """The modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(modules: Iterator[str]) -> set[str]:
    return {module.split(".")[1] for module in modules if module.startswith("orderplane.")}


def test_operator_never_hides_the_standard_librarys() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_every_room_has_its_link() -> None:
    links = {path.name: path.readlink() for path in PACKAGE.iterdir() if path.is_symlink()}
    assert links == {name: Path("..") / ".." / name for name in rooms() | ONLY_DATA}


def test_operator_imports_only_inward() -> None:
    for file in (ROOT / "operator").glob("**/*.py"):
        outward = rooms_of(imported(file.read_text())) - INSIDE_OPERATOR
        assert not outward, f"{file.relative_to(ROOT)} imports {outward}"


@pytest.mark.parametrize("statement", ["import orderplane.audit.verdict", "from orderplane import audit"])
def test_an_outward_import_would_be_seen(statement: str) -> None:
    assert rooms_of(imported(f"def f():\n    {statement}\n")) == {"audit"}


def test_nobody_imports_the_operator() -> None:
    for room in rooms() - {"operator"}:
        for file in (ROOT / room).glob("**/*.py"):
            assert "operator" not in rooms_of(imported(file.read_text())), file.relative_to(ROOT)


def test_no_module_is_too_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] != "tests"
    }
    assert {name: lines for name, lines in lengths.items() if lines > LONGER.get(name, LONGEST)} == {}


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
