"""The commands without a cluster, a database or a gateway."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
from typer.testing import CliRunner

from orderplane import __version__
from orderplane.audit.snapshot import Notice, Violation
from orderplane.audit.verdict import Verdict
from orderplane.cli import audit as audit_module
from orderplane.cli.exit_codes import LOG_IN_FIRST
from orderplane.cli.gateway import exit_code_of
from orderplane.cli.main import AVAILABLE, app
from orderplane.client.transport import NO_ANSWER, ApiProblem
from orderplane.dev.localplane.running import environment

RUNNER = CliRunner()


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that does something, by the words that call it."""
    if not hasattr(command, "list_commands"):
        return [path]
    names = command.list_commands(None)
    return [leaf for name in names for leaf in leaves(command.get_command(None, name), (*path, name))]


COMMANDS = leaves(typer.main.get_command(app))  # type: ignore[arg-type, unused-ignore]


@pytest.fixture(autouse=True)
def _knows_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith("ORDERPLANE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("email", "told"),
    [
        ("ada", "not an e-mail address"),
        ("\u200b@example.org", "not an e-mail address"),
        ("\u017eofie@example.org", "ORDERPLANE_MAIL_SMTPUTF8"),
    ],
)
def test_no_account_is_made_for_an_address_that_no_mail_can_be_sent_to(email: str, told: str) -> None:
    answer = RUNNER.invoke(app, ["users", "add", email], input="correct horse battery\n")
    assert answer.exit_code == 2
    assert told in answer.output


def test_the_commands_are_those_that_were_promised() -> None:
    assert {" ".join(words) for words in COMMANDS} == {
        "audit", "bench burst", "bench compare", "bench mixed", "bench sagas", "bench watchers",
        "clients add", "crds install", "drain", "demo",
        "dev down", "dev env", "dev prepare", "dev status", "dev up", "dlq list",
        "dlq replay", "dlq show", "erase", "keys endpoint", "keys new", "login",
        "logout", "migrate", "notifications", "orders cancel", "orders create", "orders get", "orders list",
        "orders refund", "orders refunds", "orders timeline", "orders watch", "prices delete",
        "prices history", "prices list", "prices quote", "prices set", "prices show", "renew-certificate",
        "resolve", "retry", "stock set", "users add", "version", "webhooks add", "webhooks delete",
        "webhooks deliveries", "webhooks delivery", "webhooks list", "webhooks replay",
        "webhooks replay-range", "webhooks rotate", "webhooks secret", "webhooks show", "webhooks test",
        "webhooks update",
    }  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_how_it_is_typed(words: tuple[str, ...]) -> None:
    result = RUNNER.invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    examples = result.output.partition("Example")[2]
    assert f"orderplane {' '.join(words)}" in " ".join(examples.split())


@pytest.mark.parametrize("words", [["version"], ["--version"]])
def test_version(words: list[str]) -> None:
    result = RUNNER.invoke(app, words)
    assert (result.exit_code, result.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize("name", AVAILABLE)
def test_the_list_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    command = typer.main.get_command(app).get_command(None, name)  # type: ignore[attr-defined, unused-ignore]
    assert AVAILABLE[name].help == command.help.split("\n\n")[0].strip().replace("\n", " ")


HELP = """
import resource, sys
from typer.testing import CliRunner
from orderplane.cli.main import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, *(name for name in sys.modules if "." not in name))
"""
HEAVY = {
    "aiohttp", "aiokafka", "asyncpg", "cryptography", "easypost", "fastapi", "kopf", "kubernetes", "pydantic",
    "stripe", "structlog",
}  # fmt: skip


def test_the_list_of_commands_imports_none_of_them() -> None:
    """In a process of its own: half a second of CPU at most, and no library of a command."""
    run = subprocess.run(
        [sys.executable, "-c", HELP], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    seconds, *modules = run.stdout.split()
    assert float(seconds) < 0.5
    assert HEAVY.isdisjoint(modules)


def test_version_of_a_gateway_that_is_not_known() -> None:
    result = RUNNER.invoke(app, ["version", "--gateway"])
    assert result.exit_code == LOG_IN_FIRST
    assert "No gateway is known" in result.output


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["audit"], "ORDERPLANE_POSTGRES_DSN is not set"),
        (["drain"], "ORDERPLANE_POSTGRES_DSN is not set"),
        (["drain", "--undo"], "No cluster to talk to"),
        (["renew-certificate"], "No cluster to talk to"),
        (["migrate"], "ORDERPLANE_POSTGRES_DSN is not set"),
        (["stock", "set", "TEA", "3"], "ORDERPLANE_POSTGRES_DSN is not set"),
        (["notifications"], "ORDERPLANE_POSTGRES_DSN is not set"),
        (["dlq", "list"], "ORDERPLANE_KAFKA is not set"),
        (["dlq", "show", "1"], "ORDERPLANE_KAFKA is not set"),
        (["dlq", "replay", "1"], "ORDERPLANE_KAFKA is not set"),
        (["resolve", "o-1", "--reason", "r", "--reference", "1"], "ORDERPLANE_POSTGRES_DSN is not set"),
        (["retry", "o-1"], "No cluster to talk to"),
        (["crds", "install"], "No cluster to talk to"),
    ],
)
def test_what_is_missing_is_said_in_one_line(words: list[str], missing: str) -> None:
    result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert missing in result.output
    assert 'eval "$(orderplane dev env)"' in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["login"],
        ["orders", "get"],
        ["stock", "set", "TEA"],
        ["stock", "set", "TEA", "--", "-1"],
        ["audit", "--yaml"],
        ["resolve", "o-1"],
    ],
)
def test_wrong_usage_ends_with_two(words: list[str]) -> None:
    assert RUNNER.invoke(app, words).exit_code == 2


def test_who_is_nowhere_logged_in_is_told_how_to() -> None:
    result = RUNNER.invoke(app, ["orders", "list"])
    assert result.exit_code == 3
    assert "orderplane login --url" in result.output


def test_a_byte_order_mark_is_no_part_of_an_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What comes after the reading is asked: there is no gateway."""
    monkeypatch.setenv("ORDERPLANE_GATEWAY", "http://127.0.0.1:9")
    file = tmp_path / "order.json"
    file.write_bytes(b'\xef\xbb\xbf{"items": []}')
    for words, given in ((["orders", "create", str(file)], None), (["orders", "create", "-"], "\ufeff{}")):
        result = RUNNER.invoke(app, words, input=given)
        assert "JSON object" not in result.output
        assert result.exit_code != 2


@pytest.mark.parametrize("order", ["", "[]", "{", "customer: c-1"])
def test_what_is_no_order_is_not_sent(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERPLANE_GATEWAY", "http://127.0.0.1:9")
    result = RUNNER.invoke(app, ["orders", "create", "-"], input=order)
    assert result.exit_code == 2
    assert "JSON object" in result.output


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (ApiProblem(422, "validation_failed", "d"), 1),
        (ApiProblem(403, "insufficient_scope", "d"), 1),
        (ApiProblem(409, "too_late_to_cancel", "d"), 1),
        (ApiProblem(500, "internal_error", "d"), 1),
        (ApiProblem(401, "invalid_token", "d"), 3),
        (ApiProblem(400, "invalid_grant", "d"), 3),
        (ApiProblem(404, "order_not_found", "d"), 4),
        (ApiProblem(0, NO_ANSWER, "d"), 5),
        (ApiProblem(503, "unavailable", "d"), 5),
        (ApiProblem(429, "too_many_logins", "d", retry_after=300), 5),
        (ApiProblem(409, "request_in_progress", "d", retry_after=1), 5),
    ],
)
def test_exit_codes_mean_something(problem: ApiProblem, code: int) -> None:
    assert exit_code_of(problem) == code


@pytest.mark.parametrize("is_clean", [True, False])
def test_audit_answers_programs(is_clean: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    violations = () if is_clean else (Violation("payment-total", "shop/o-1", "Failed: 5 kept, 0 owed"),)

    async def verdict(*, is_recorded: bool) -> Verdict:
        assert not is_recorded
        return Verdict(violations, ("shop/o-2",), {"orders": 2}, (Notice("shop/o-3", "refund re_1"),))

    monkeypatch.setattr(audit_module, "_VARIABLES", ())
    monkeypatch.setattr(audit_module, "_audit", verdict)
    result = RUNNER.invoke(app, ["audit", "--json"])
    assert result.exit_code == (0 if is_clean else 1)
    assert json.loads(result.output) == {
        "clean": is_clean,
        "violations": [
            {"invariant": v.invariant, "subject": v.subject, "detail": v.detail} for v in violations
        ],
        "notices": [{"subject": "shop/o-3", "detail": "refund re_1"}],
        "open": ["shop/o-2"],
        "counts": {"orders": 2},
    }


def test_dev_says_that_nothing_is_up(tmp_path: Path) -> None:
    there = ["--state-dir", str(tmp_path / "none")]
    status = RUNNER.invoke(app, ["dev", "status", "--json", *there])
    assert (status.exit_code, json.loads(status.output)) == (1, {"up": False, "components": {}})
    env = RUNNER.invoke(app, ["dev", "env", *there])
    assert env.exit_code == 1
    assert "orderplane dev up" in env.output
    down = RUNNER.invoke(app, ["dev", "down", *there])
    assert (down.exit_code, down.output) == (0, "Nothing is up.\n")


def test_dev_up_takes_no_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    result = RUNNER.invoke(app, ["dev", "up", "--state-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert "empty or new folder" in result.output
    assert (tmp_path / "letters.txt").read_text() == "dear"


def test_dev_down_ends_nobody_elses_process(tmp_path: Path) -> None:
    """Its pid is in an old state, but the process that has it now is another."""
    state = tmp_path / "old"
    state.mkdir()
    other = {"pid": os.getpid(), "created": psutil.Process().create_time() - 3600}
    (state / "state.json").write_text(json.dumps({"host": other, "components": {"etcd": other}}))
    result = RUNNER.invoke(app, ["dev", "down", "--state-dir", str(state)])
    assert (result.exit_code, result.output) == (0, "Everything is down.\n")
    assert not state.exists()


def test_the_environment_survives_a_shell() -> None:
    lines = environment(
        {"env": {"KUBECONFIG": "/a b/it's.yaml"}, "gateway": "http://127.0.0.1:1", "kubectl": "/a b/kubectl"}
    )
    assert lines == [
        "export KUBECONFIG='/a b/it'\"'\"'s.yaml'",
        "export ORDERPLANE_GATEWAY=http://127.0.0.1:1",
        f"export PATH={Path(sys.executable).parent}:'/a b':\"$PATH\"",
    ]
