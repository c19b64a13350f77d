"""Documents name only files, folders, headings and commands that exist."""

import re
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from orderplane.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = r"py|md|yaml|json|sql|toml|js|lock|sh|go"
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
PATH = re.compile(rf"(?:[\w.-]+/)+(?:[\w.-]+)?|[\w-]+\.(?:{SUFFIXES})")
FILE = re.compile(rf".*\.(?:{SUFFIXES})")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b(?!\.md)")
"""As in `src/orderplane/NAME`."""


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=30
    ).stdout.decode()
    return [name for name in listed.split("\0") if name]


def names_a_path(span: str, top: set[str]) -> bool:
    """A path is a span that ends as a file or a folder does, or begins with a folder of the root."""
    if not PATH.fullmatch(span) or PLACEHOLDER.search(span):
        return False
    return bool(FILE.fullmatch(span)) or span.endswith("/") or span.split("/", maxsplit=1)[0] in top


def test_paths_in_documents_exist() -> None:
    files = tracked()
    top = {name.split("/")[0] for name in files if "/" in name}
    basenames = {Path(name).name for name in files}
    wrong = []
    for name in files:
        if not name.endswith(".md"):
            continue
        document = ROOT / name
        text = document.read_text(encoding="utf-8")
        for span in CODE.findall(text):
            if not names_a_path(span, top):
                continue
            is_there = (ROOT / span).exists() or (document.parent / span).exists()
            if not is_there and not ("/" not in span and span in basenames):
                wrong.append(f"{name}: `{span}`")
        wrong += [f"{name}: ({link})" for link in LINK.findall(text) if not (document.parent / link).exists()]
    assert not wrong, "\n".join(wrong)


ANCHOR = re.compile(r"\]\(([^)#:\s]*)#([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^( *)```\w*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"[|&;<>#)]|\\d>")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def documents() -> list[tuple[str, str]]:
    return [(name, (ROOT / name).read_text(encoding="utf-8")) for name in tracked() if name.endswith(".md")]


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-")


def test_links_to_headings_lead_to_one() -> None:
    wrong = []
    for name, text in documents():
        for target, anchor in ANCHOR.findall(text):
            file = (ROOT / name).parent / target if target else ROOT / name
            if file.suffix == ".md" and anchor not in map(
                slug, HEADING.findall(file.read_text(encoding="utf-8"))
            ):
                wrong.append(f"{name}: {target}#{anchor}")
    assert not wrong, "\n".join(wrong)


def test_the_index_leads_to_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / "docs" / link).resolve() for link in LINK.findall(index)}
    pages = set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "README.md"}
    assert {page.name for page in pages - linked} == set()


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in the text's blocks, without a prompt and without variables before it."""
    for _, block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.strip().removeprefix("$ ").split()
            while words and ASSIGNMENT.fullmatch(words[0]):
                words.pop(0)
            if words:
                yield words


def is_known(words: list[str]) -> bool:
    """Whether our scripts, modules and commands have it. Those of others are always known."""
    match words:
        case [script, *_] if script.startswith("scripts/"):
            return (ROOT / script).is_file()
        case ["python" | "python3", "-m", module, *_] if module.startswith("orderplane."):
            return find_spec(module) is not None
        case ["orderplane" | ".venv/bin/orderplane", *rest]:
            return _is_command(rest)
        case ["docker", "compose", "run", "--rm", "cli", *rest]:
            return _is_command(rest)
    return True


def _is_command(words: list[str]) -> bool:
    command: Any = get_command(app)
    while words and hasattr(command, "get_command") and not words[0].startswith("-"):
        command, words = command.get_command(None, words[0]), words[1:]
    if command is None:
        return False
    # What comes after belongs to the shell or to another command, and a synopsis is no command.
    end = next((n for n, word in enumerate(words) if SHELL.match(word)), len(words))
    options = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return all(
        word.partition("=")[0] in options | {"--help", "-"} for word in words[:end] if word.startswith("-")
    )


def test_commands_in_documents_exist() -> None:
    wrong = [
        f"{name}: {' '.join(words)}"
        for name, text in documents()
        for words in commands(text)
        if not is_known(words)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "words",
    [
        ["scripts/none"],
        ["orderplane", "none"],
        ["orderplane", "dlq", "none"],
        ["orderplane", "dlq", "list", "--first", "3"],
        ["python", "-m", "orderplane.none"],
    ],
)
def test_a_command_that_does_not_exist_is_found(words: list[str]) -> None:
    assert not is_known(words)


COSTS = re.compile(r"^\| ([\w-]+)[^|]*\| (\d+\.\d) \|", re.MULTILINE)
NEEDS = re.compile(r"^\| ([\w-]+) \| (\d+\.\d) \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)
A_MINUTE = (167, 1_000, 10_000)
SLOWEST_HOUR = 5 / 3


def test_capacity_follows_from_what_was_measured() -> None:
    """docs/capacity.md is docs/performance.md multiplied."""
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    measured = dict(COSTS.findall(text.split("### CPU of one order")[1].split("\n### ")[0]))
    table = NEEDS.findall((ROOT / "docs" / "capacity.md").read_text(encoding="utf-8"))
    assert len(table) == 8
    for process, milliseconds, *cores in table:
        assert milliseconds == measured[process]
        expected = [each / 60 * float(milliseconds) / 1000 * SLOWEST_HOUR for each in A_MINUTE]
        assert cores == [f"{each:.2f}" for each in expected], process
