"""A mounted Secret, as the kubelet writes it (AtomicWriter in k8s.io/kubernetes/pkg/volume/util)."""

import shutil
from collections.abc import Mapping
from pathlib import Path


class MountedSecret:
    """Files are links into `..data`, which is a link to a folder; an update swaps that link at once."""

    def __init__(self, folder: Path, files: Mapping[str, str | bytes]) -> None:
        self.folder = folder
        self._version = 0
        folder.mkdir()
        self.replace(files)

    def replace(self, files: Mapping[str, str | bytes]) -> None:
        data, last = self.folder / "..data", self._target
        self._version += 1
        self._target.mkdir()
        for name, content in files.items():
            (self._target / name).write_bytes(content.encode() if isinstance(content, str) else content)
        link = self.folder / "..data_tmp"
        link.symlink_to(self._target.name)
        link.rename(data)
        for name in files:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for old in self.folder.iterdir():
            if old.is_symlink() and not old.exists():
                old.unlink()
        shutil.rmtree(last, ignore_errors=True)

    @property
    def _target(self) -> Path:
        return self.folder / f"..version-{self._version}"
