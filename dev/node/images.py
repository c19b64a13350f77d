"""The images of a node: built by `scripts/image`, and handed to containerd without a registry."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import run_logged

BASE = "localhost/debian-python:bookworm"
"""What `scripts/base-image` makes; `PYTHON_IMAGE` names another one."""

_PREFIX = "docker.io/orderplane"
TAG = "dev"
"""Of the images of this checkout."""

PRODUCT = ("gateway", "console", "operator", "webhook", "relay", "notifier", "deliverer", "cli")
"""What the chart and kustomize/base run."""

IMAGES = (*PRODUCT, "sandbox", "postgres", "kafka", "pause")
"""The targets of the Dockerfile."""

PAUSE = f"{_PREFIX}/pause:{TAG}"


async def build(
    state: Path,
    progress: Progress,
    *,
    checkout: Path | None = None,
    names: Sequence[str] = IMAGES,
    tag: str = TAG,
) -> Path:
    """Build images; returns a folder in the OCI image layout, with each layer once.

    Args:
        checkout: Of which commit; by default, this one.

    Raises:
        ToolMissing: a build failed; the message holds the end of its log.
    """
    logs, scripts = state / "logs", (checkout or project_root()) / "scripts"
    logs.mkdir(exist_ok=True)
    base = os.environ.get("PYTHON_IMAGE") or BASE
    if base == BASE:
        with progress.step("Making the base image (once, about a minute)") as step:
            await run_logged([scripts / "base-image"], logs / "base-image.log", step)
    layout = state / "images"
    shutil.rmtree(layout, ignore_errors=True)
    with progress.step("Building the images (about two minutes the first time)") as step:
        env = {
            **os.environ, "BUILDER": "buildah", "PREFIX": "orderplane", "TAG": tag, "PYTHON_IMAGE": base,
            # The layers of packages stay as they are from commit to commit.
            "SOURCE_DATE_EPOCH": "0",
        }  # fmt: skip
        await run_logged([scripts / "image", *names], logs / "image.log", step, env=env)
        for name in names:
            push = (
                "buildah", "push", "--quiet", "--disable-compression", f"localhost/orderplane/{name}:{tag}",
                f"oci:{layout}:{_PREFIX}/{name}:{tag}",
            )  # fmt: skip
            await run_logged(push, logs / "image-push.log", step)
    return layout


def import_all(ctr: Sequence[str], layout: Path) -> None:
    """Give containerd the images, and remove the folder.

    Args:
        ctr: The command, which has to run on the node.
    """
    archive = subprocess.Popen(["tar", "-C", str(layout), "-c", "."], stdout=subprocess.PIPE)
    with archive:
        subprocess.run(
            [*ctr, "--namespace=k8s.io", "images", "import", "-"],
            stdin=archive.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=600,
        )
    shutil.rmtree(layout)
