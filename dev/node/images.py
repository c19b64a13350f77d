"""The images of a node: built by `scripts/image`, and handed to containerd without a registry."""

import os
import shutil
import subprocess
from pathlib import Path

from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import run_logged
from orderplane.dev.node.programs import Programs

BASE = "localhost/debian-python:bookworm"
"""What `scripts/base-image` makes; `PYTHON_IMAGE` names another one."""

_PREFIX, _TAG = "docker.io/orderplane", "dev"
IMAGES = (
    "gateway", "operator", "webhook", "relay", "notifier", "cli", "sandbox", "postgres", "kafka", "pause",
)  # fmt: skip
"""The targets of the Dockerfile."""

PAUSE = f"{_PREFIX}/pause:{_TAG}"


async def build(state: Path, progress: Progress) -> Path:
    """Build all images of this checkout; returns a folder in the OCI image layout, with each layer once.

    Raises:
        ToolMissing: a build failed; the message holds the end of its log.
    """
    logs, scripts = state / "logs", project_root() / "scripts"
    logs.mkdir(exist_ok=True)
    base = os.environ.get("PYTHON_IMAGE") or BASE
    if base == BASE:
        with progress.step("Making the base image (once, about a minute)") as step:
            await run_logged([scripts / "base-image"], logs / "base-image.log", step)
    layout = state / "images"
    shutil.rmtree(layout, ignore_errors=True)
    with progress.step("Building the images (about two minutes the first time)") as step:
        env = {
            **os.environ, "BUILDER": "buildah", "PREFIX": "orderplane", "TAG": _TAG, "PYTHON_IMAGE": base,
            # The layers of packages stay as they are from commit to commit.
            "SOURCE_DATE_EPOCH": "0",
        }  # fmt: skip
        await run_logged([scripts / "image", *IMAGES], logs / "image.log", step, env=env)
        for name in IMAGES:
            push = (
                "buildah", "push", "--quiet", "--disable-compression", f"localhost/orderplane/{name}:{_TAG}",
                f"oci:{layout}:{_PREFIX}/{name}:{_TAG}",
            )  # fmt: skip
            await run_logged(push, logs / "image-push.log", step)
    return layout


def import_all(programs: Programs, layout: Path) -> None:
    """Give containerd the images, and remove the folder."""
    archive = subprocess.Popen(["tar", "-C", str(layout), "-c", "."], stdout=subprocess.PIPE)
    with archive:
        subprocess.run(
            [str(programs["ctr"]), "--namespace=k8s.io", "images", "import", "-"],
            stdin=archive.stdout,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=600,
        )
    shutil.rmtree(layout)
