"""Where things are kept: what can be made again, and what one plane is doing now."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """What took long to get: `$ORDERPLANE_CACHE`, else `orderplane` in the user's cache directory."""
    if given := os.environ.get("ORDERPLANE_CACHE"):
        path = Path(given)
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orderplane"
    path.mkdir(parents=True, exist_ok=True)
    return path


def default_state_dir() -> Path:
    """Where `orderplane dev up` lives: `$XDG_STATE_HOME/orderplane`, else `~/.local/state/orderplane`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "orderplane"


def project_root() -> Path:
    """The checkout, which holds the CRDs, the manifests and the pinned build inputs."""
    return Path(__file__).resolve().parents[2]


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one process at a time fetch or build the same thing; the others wait."""
    with (cache_dir() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
