"""The scripts of others are the published ones, byte by byte, with their licences."""

import hashlib
import json
from pathlib import Path

import orderplane.console as package

STATIC = Path(next(iter(package.__path__))) / "static"


def test_each_file_has_the_hash_that_is_noted() -> None:
    noted = json.loads((STATIC / "vendored.json").read_text())
    assert noted
    for name, facts in noted.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == facts["sha256"], name
        assert (STATIC / f"{name.removesuffix('.min.js')}.LICENSE.txt").exists(), name
        assert facts["version"].count(".") == 2


def test_every_script_is_ours_or_noted() -> None:
    noted = json.loads((STATIC / "vendored.json").read_text())
    assert {path.name for path in STATIC.glob("*.js")} == {"console.js", *noted}
