"""Download etcd and the control plane as the official envtest archive."""

import asyncio
import hashlib
import platform
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO

import aiohttp

from orderplane.dev.localplane.progress import Progress, Step

CONTENT = frozenset({"etcd", "kube-apiserver", "kubectl"})
"""The programs in the archive."""

_VERSION = "1.36.2"
_ADDRESS = "https://github.com/kubernetes-sigs/controller-tools/releases/download"
# SHA-512, from envtest-releases.yaml of that repository.
_DIGESTS = {
    "linux-amd64": "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
    "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
    "linux-arm64": "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
    "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
    "darwin-amd64": "b4fe9f973cd1992e3880f8b230ed32c0c243b83371591e3e3315f4404df2cdbe"
    "f8ee94eeb9bb245b7e5feb987d5c4a76c43e0877654ab73f00d7bbc2b9984514",
    "darwin-arm64": "9278f9e5af556b2f1f2d139769c1f0d717c7b4426917fdebdba898bcb725a916"
    "e4910d6160886194ff9be9589ea7c5c32c2b8ae0754703874b7c8ba8ddfc41ce",
}
# Without network access the programs are built instead, so the connection timeout is short.
_TIMEOUT = aiohttp.ClientTimeout(total=300, connect=4, sock_read=10)
_MOST_BYTES = 400 * 2**20
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class ArchiveUnavailable(Exception):  # noqa: N818
    """The archive cannot be downloaded or has another hash; the message says which."""


async def fetch_envtest(
    folder: Path, progress: Progress, address: str = _ADDRESS, digests: dict[str, str] = _DIGESTS
) -> None:
    """Put `CONTENT` into `folder`, atomically.

    Raises:
        ArchiveUnavailable: no archive for this machine, no response in time, or another hash than pinned.
    """
    kind = f"{platform.system().lower()}-{_MACHINES.get(platform.machine().lower(), platform.machine())}"
    if kind not in digests:
        raise ArchiveUnavailable(f"there is none for {kind}")
    url = f"{address}/envtest-v{_VERSION}/envtest-v{_VERSION}-{kind}.tar.gz"
    with (
        progress.step("Fetching the envtest archive (once, a minute or less)") as step,
        tempfile.TemporaryFile() as file,
    ):
        try:
            digest = await _download(url, file, step)
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise ArchiveUnavailable(f"{url}: {problem or 'no answer in time'}") from problem
        if digest != digests[kind]:
            raise ArchiveUnavailable(f"{url}: SHA-512 is {digest}, pinned is {digests[kind]}")
        file.seek(0)
        await asyncio.to_thread(_unpack, file, folder)


async def _download(url: str, file: IO[bytes], step: Step) -> str:
    digest, size = hashlib.sha512(), 0
    async with (
        aiohttp.ClientSession(timeout=_TIMEOUT, raise_for_status=True) as session,
        session.get(url) as response,
    ):
        async for chunk in response.content.iter_chunked(2**20):
            size += len(chunk)
            if size > _MOST_BYTES:
                raise ArchiveUnavailable(f"{url}: more than {_MOST_BYTES} bytes")
            digest.update(chunk)
            file.write(chunk)
            step.update(f"{size / 2**20:.0f} MiB")
    return digest.hexdigest()


def _unpack(file: IO[bytes], folder: Path) -> None:
    with (
        tempfile.TemporaryDirectory(dir=folder) as unfinished,
        tarfile.open(fileobj=file, mode="r:gz") as archive,
    ):
        wanted = {Path(m.name).name: m for m in archive if m.isfile() and Path(m.name).name in CONTENT}
        if missing := CONTENT - set(wanted):
            raise ArchiveUnavailable(f"the archive lacks {', '.join(sorted(missing))}")
        for name, member in wanted.items():
            # Only the content is used: owner, mode and path in the archive are not trusted.
            with archive.extractfile(member) as source, (Path(unfinished) / name).open("wb") as target:  # type: ignore[union-attr]
                shutil.copyfileobj(source, target)
        for name in CONTENT:
            made = Path(unfinished) / name
            made.chmod(0o755)
            made.rename(folder / name)
