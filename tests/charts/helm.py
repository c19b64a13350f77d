"""Helm, and what it renders, as tests look at it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "orderplane"
PRODUCTION = CHART / "examples" / "production.yaml"

Json = dict[str, Any]
Objects = dict[tuple[str, str], Json]
"""By kind and name."""


@dataclass(frozen=True, slots=True)
class Helm:
    """The program, with a home of its own.

    Args:
        program: Its path.
        home: A folder for its caches and settings.
        kubeconfig: Of the cluster, where there is one.
    """

    program: Path
    home: Path
    kubeconfig: Path | None = None

    async def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        places = {f"HELM_{kind}_HOME": str(self.home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        env = {**os.environ, **places, "KUBECONFIG": str(self.kubeconfig or self.home / "none")}
        return await asyncio.to_thread(
            subprocess.run, [str(self.program), *words], input=stdin, env=env, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip

    async def text(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = "orderplane",
        namespace: str = "orderplane-system",
        chart: Path = CHART,
        files: Sequence[Path] = (),
    ) -> str:
        """What an installation with these values would create, hooks included, as YAML."""
        options = [word for file in files for word in ("-f", str(file))]
        done = await self.run(
            "template", release, str(chart), "-n", namespace, *options, "-f", "-",
            stdin=json.dumps(values or {}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    async def template(self, values: Mapping[str, Any] | None = None, **options: Any) -> list[Json]:
        """The same as objects; the options are those of `text`."""
        return parsed(await self.text(values, **options))


def parsed(manifest: str) -> list[Json]:
    """The objects of a manifest. libyaml reads it ten times as fast as Python does."""
    return [each for each in yaml.load_all(manifest, Loader=yaml.CSafeLoader) if each]


def by_name(documents: Sequence[Json]) -> Objects:
    """Every object once."""
    found = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    assert len(found) == len(documents), "two objects have one name"
    return found


def is_hook(document: Json) -> bool:
    """Whether Helm makes it at a moment of its own, apart from the release."""
    return "helm.sh/hook" in document["metadata"].get("annotations", {})
