"""What a node needs of the machine."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from orderplane.dev.localplane.tools import ToolMissing
from orderplane.dev.node import programs


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine that has everything; returns the folder of its CNI plugins."""
    (tmp_path / "bridge").touch()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(programs, "CNI_PLUGINS", (tmp_path / "none", tmp_path))
    return tmp_path


def test_a_machine_with_everything_will_do(machine: Path) -> None:
    assert programs.check_machine() == machine


def test_everything_that_is_missing_is_named_at_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "bridge").unlink()
    monkeypatch.setattr(shutil, "which", lambda name: None if name in {"runc", "buildah"} else f"/bin/{name}")
    with pytest.raises(
        ToolMissing, match=r"^missing here: buildah, runc, the CNI plugins \(on Debian: apt-get"
    ):
        programs.check_machine()


def test_without_root_it_says_so(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolMissing, match="root"):
        programs.check_machine()
