"""Paths on disk: the cache of downloads and builds, the state of a plane, the checkout."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """Downloads and builds: `$ORDERPLANE_CACHE`, else `orderplane` in the user's cache directory."""
    if given := os.environ.get("ORDERPLANE_CACHE"):
        path = Path(given)
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orderplane"
    path.mkdir(parents=True, exist_ok=True)
    return path


def default_state_dir() -> Path:
    """The state of `orderplane dev up`: `$XDG_STATE_HOME/orderplane`, else `~/.local/state/orderplane`."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "orderplane"


def project_root() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parents[2]


@contextmanager
def cache_lock(name: str) -> Iterator[None]:
    """A lock between processes, so that one downloads or builds `name` and the others wait."""
    with (cache_dir() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
