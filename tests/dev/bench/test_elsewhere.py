"""The benchmark runs as the program of another checkout's interpreter."""

import subprocess
import sys
from pathlib import Path

from orderplane.dev.bench import command


def test_the_package_of_the_checkout_is_replaced(tmp_path: Path) -> None:
    """Here the other checkout is this one, and the benchmark is a copy elsewhere that prints where it is."""
    source = Path(command.__file__).resolve().parent
    copy = tmp_path / "bench"
    copy.mkdir()
    for file in source.glob("*.py"):
        (copy / file.name).write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    (copy / "command.py").write_text(
        "import orderplane.dev.bench.work as w\ndef app():\n    print(w.__file__)\n"
    )
    answer = subprocess.run(
        [sys.executable, str(copy / "elsewhere.py"), "mixed"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == str(copy / "work.py")


def test_one_that_does_not_fit_any_more_says_so(tmp_path: Path) -> None:
    source = Path(command.__file__).resolve().parent
    for name in ("elsewhere.py", "__init__.py"):
        (tmp_path / name).write_text((source / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "command.py").write_text("from orderplane.dev.localplane.plane import Gone\n")
    answer = subprocess.run(
        [sys.executable, str(tmp_path / "elsewhere.py"), "mixed"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 2
    assert "does not fit the other checkout any more" in answer.stderr
