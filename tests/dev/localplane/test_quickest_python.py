"""Which interpreter the scripts take: `scripts/quickest_python.py`."""

import importlib.util
import sys
from types import ModuleType

import pytest

from orderplane.dev.localplane.paths import project_root


@pytest.fixture(scope="module")
def quickest_python() -> ModuleType:
    path = project_root() / "scripts" / "quickest_python.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("others", "taken"),
    [
        ([], "first"),
        ([(0.7, "3.11", "quicker")], "quicker"),
        ([(0.8, "3.11", "quick"), (0.6, "3.11", "quicker")], "quicker"),
        ([(0.9, "3.11", "within the noise")], "first"),
        ([(2.0, "3.11", "slower")], "first"),
        ([(0.1, "3.13", "another version")], "first"),
    ],
)
def test_another_build_is_taken_only_when_it_is_clearly_quicker(
    quickest_python: ModuleType, others: list[tuple[float, str, str]], taken: str
) -> None:
    builds = [quickest_python.Build(*other) for other in others]
    assert quickest_python.quickest(quickest_python.Build(1.0, "3.11", "first"), builds).path == taken


def test_what_is_no_python_is_passed_over(
    quickest_python: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    quickest_python.main([sys.executable, "/bin/false", "/nowhere/python3"])
    assert capsys.readouterr().out.strip() == sys.executable
