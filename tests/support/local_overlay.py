"""kustomize/overlays/local with secrets, which a checkout has not."""

import shutil
from pathlib import Path

from orderplane.dev.node import demo_secrets

ROOT = Path(__file__).parents[2]


def copy_with_secrets(folder: Path) -> Path:
    """The overlay in a copy of what it is made from."""
    for room in ("crds", "manifests", "kustomize"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("secrets", "*.py"))
    local = folder / "kustomize" / "overlays" / "local"
    demo_secrets.write(local / "secrets")
    return local
