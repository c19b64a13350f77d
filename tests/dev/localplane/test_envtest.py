"""The envtest archive, from a server of our own: what is taken, and what is refused."""

import asyncio
import hashlib
import io
import platform
import stat
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from orderplane.dev.localplane import envtest
from orderplane.dev.localplane.envtest import ArchiveUnavailable, fetch_envtest

PROGRAMS = {"etcd": b"the store", "kube-apiserver": b"the server", "kubectl": b"the client"}


class Quiet:
    def step(self, text: str) -> "Quiet":
        return self

    def note(self, text: str) -> None: ...
    def update(self, text: str) -> None: ...
    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, kind: object, *_: object) -> None: ...


def archive(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"controller-tools/envtest/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return whole.getvalue()


@asynccontextmanager
async def server(handler: "web.Handler") -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert site._server is not None
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


def serves(content: bytes, asked: list[str] | None = None) -> "web.Handler":
    async def answer(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(request.path)
        return web.Response(body=content)

    return answer


@pytest.fixture(autouse=True)
def _on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def pinned(content: bytes) -> dict[str, str]:
    return {"linux-amd64": hashlib.sha512(content).hexdigest()}


@contextmanager
def refused(folder: Path, reason: str) -> Iterator[None]:
    with pytest.raises(ArchiveUnavailable, match=reason):
        yield
    assert list(folder.iterdir()) == [], "nothing may be left of what was refused"


async def test_the_pinned_archive_is_unpacked_and_can_be_run(tmp_path: Path) -> None:
    content, asked = archive({**PROGRAMS, "README": b"more"}), []
    async with server(serves(content, asked)) as address:
        await fetch_envtest(tmp_path, Quiet(), address, pinned(content))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == PROGRAMS
    assert all(file.stat().st_mode & stat.S_IXUSR for file in tmp_path.iterdir())
    assert asked == ["/envtest-v1.36.2/envtest-v1.36.2-linux-amd64.tar.gz"]


async def test_another_content_than_pinned_is_refused(tmp_path: Path) -> None:
    async with server(serves(archive(PROGRAMS | {"etcd": b"something else"}))) as address:
        with refused(tmp_path, "SHA-512 is [0-9a-f]{128}, pinned is"):
            await fetch_envtest(tmp_path, Quiet(), address, pinned(archive(PROGRAMS)))


async def test_an_archive_without_a_program_is_refused(tmp_path: Path) -> None:
    content = archive({"etcd": b"the store", "kubectl": b"the client"})
    async with server(serves(content)) as address:
        with refused(tmp_path, "lacks kube-apiserver"):
            await fetch_envtest(tmp_path, Quiet(), address, pinned(content))


async def test_no_such_page_is_said(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=404)

    async with server(answer) as address:
        with refused(tmp_path, "404"):
            await fetch_envtest(tmp_path, Quiet(), address, pinned(b""))


async def test_nobody_there_is_said(tmp_path: Path) -> None:
    async with server(serves(b"")) as address:
        pass
    with refused(tmp_path, "envtest-v1.36.2-linux-amd64.tar.gz: "):
        await fetch_envtest(tmp_path, Quiet(), address, pinned(b""))


async def test_silence_is_not_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envtest, "_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    is_over = asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await is_over.wait()
        return web.Response()

    async with server(answer) as address:
        with refused(tmp_path, "."):
            await fetch_envtest(tmp_path, Quiet(), address, pinned(b""))
        is_over.set()


async def test_a_machine_it_does_not_exist_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with refused(tmp_path, "none for linux-riscv64"):
        await fetch_envtest(tmp_path, Quiet(), "http://127.0.0.1:9")
