"""The commands of a node, where there is none."""

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from orderplane.dev.node import command

runner = CliRunner()


@pytest.fixture(autouse=True)
def nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "cgroups", lambda: iter(()))
    monkeypatch.setattr(command, "_TUNED", ())


@pytest.mark.parametrize("name", ["up", "down"])
def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").touch()
    ended = runner.invoke(command.app, [name, "--state-dir", str(tmp_path)])
    assert ended.exit_code == 2
    assert "not a node's" in ended.output.replace("\n", " ")
    assert (tmp_path / "precious").exists()


def test_a_place_that_the_node_hides_from_itself_is_refused() -> None:
    ended = runner.invoke(command.app, ["up", "--state-dir", "/run/orderplane-none"])
    assert ended.exit_code == 2
    assert "/run" in ended.output
    assert not Path("/run/orderplane-none").exists()


def test_without_a_node_there_is_nothing_to_run_on_or_to_end(tmp_path: Path) -> None:
    ended = runner.invoke(command.app, ["exec", "--state-dir", str(tmp_path), "kubectl", "get", "pods"])
    assert (ended.exit_code, "scripts/node-up" in ended.output) == (1, True)
    ended = runner.invoke(command.app, ["down", "--state-dir", str(tmp_path / "none")])
    assert (ended.exit_code, ended.output) == (0, "No node is up.\n")


def test_down_ends_the_first_process_and_removes_the_state(tmp_path: Path) -> None:
    state = tmp_path / "node"
    state.mkdir()
    # What `unshare --fork` is: a process that waits for the first one of the namespaces.
    outside = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
    process = psutil.Process(outside.pid)
    while not process.children():
        assert outside.poll() is None
    [inside] = process.children()
    command.write_mark(state, process)
    try:
        assert command.init_of(state) == inside
        command.clean_up(state)
        assert not inside.is_running() or inside.status() == psutil.STATUS_ZOMBIE
        assert outside.poll() is not None
        assert not state.exists()
    finally:
        outside.kill()


def test_a_process_that_got_the_pid_of_an_old_node_is_none(tmp_path: Path) -> None:
    command.write_mark(tmp_path, psutil.Process(os.getpid()))
    mark = tmp_path / "unshare.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "created": 1.0}))
    assert command.init_of(tmp_path) is None
