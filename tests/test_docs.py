"""Documents name only files and folders that exist."""

import re
import subprocess
from pathlib import Path

import pytest

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
