"""The certificate, its key and the authority of clients are replaced while the webhook answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from orderplane.dev.localplane.credentials import Authority
from orderplane.webhook.certificate import ServingCertificate

from ..support.mounted import MountedSecret


class Side:
    """An authority with a certificate for the server and one for a client."""

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder)
        self._client = self._authority.client("caller")
        certificate, key = self._authority.serving("server")
        self.files = {
            "tls.crt": certificate.read_bytes(),
            "tls.key": key.read_bytes(),
            "client-ca.crt": self._authority.ca.read_bytes(),
        }

    def renewed(self) -> dict[str, bytes]:
        """The files with another certificate for the server, by the same authority."""
        certificate, key = self._authority.serving("server")
        return {**self.files, "tls.crt": certificate.read_bytes(), "tls.key": key.read_bytes()}

    def context(self, trusts: "Side") -> ssl.SSLContext:
        """Of a client that shows the certificate of this side."""
        context = ssl.create_default_context(cadata=trusts.files["client-ca.crt"].decode())
        context.load_cert_chain(*self._client)
        return context


@pytest.fixture
def old(tmp_path: Path) -> Side:
    return Side(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Side:
    return Side(tmp_path / "new")


@pytest.fixture
def mounted(tmp_path: Path, old: Side) -> MountedSecret:
    return MountedSecret(tmp_path / "mounted", old.files)


@pytest.fixture
def certificate(mounted: MountedSecret) -> ServingCertificate:
    files = (mounted.folder / name for name in ("tls.crt", "tls.key", "client-ca.crt"))
    return ServingCertificate(*files)


@asynccontextmanager
async def serving(certificate: ServingCertificate) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(port: int, context: ssl.SSLContext, times: int = 1) -> str:
    """Each time by a new connection; returns the serial number of the last certificate."""
    serial = ""
    for _ in range(times):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            serial = writer.get_extra_info("peercert")["serialNumber"]
            writer.write(b"GET / HTTP/1.1\r\nHost: webhook\r\nConnection: close\r\n\r\n")
            if not (answer := await asyncio.wait_for(reader.read(), 10)):
                raise ConnectionError("the server has closed the connection")
            assert answer.endswith(b"ok")
        finally:
            writer.close()
    return serial


async def test_new_connections_get_the_new_one_and_none_fails(
    certificate: ServingCertificate, mounted: MountedSecret, old: Side
) -> None:
    caller = old.context(trusts=old)
    async with serving(certificate) as port:
        load = asyncio.gather(*(ask(port, caller, times=20) for _ in range(4)))
        before = await ask(port, caller)
        mounted.replace(old.renewed())
        certificate.reload()
        after = await ask(port, caller)
        await load
        assert await ask(port, caller) == after != before


async def test_a_client_authority_that_was_taken_away_is_not_trusted_any_more(
    certificate: ServingCertificate, mounted: MountedSecret, old: Side, new: Side
) -> None:
    async with serving(certificate) as port:
        await ask(port, old.context(trusts=old))
        with pytest.raises(OSError):
            await ask(port, new.context(trusts=old))
        mounted.replace({**old.files, "client-ca.crt": new.files["client-ca.crt"]})
        certificate.reload()
        await ask(port, new.context(trusts=old))
        with pytest.raises(OSError):
            await ask(port, old.context(trusts=old))


@pytest.mark.parametrize("wrong", ["tls.crt", "tls.key"])
async def test_what_does_not_belong_together_is_not_used(
    certificate: ServingCertificate, mounted: MountedSecret, old: Side, new: Side, wrong: str
) -> None:
    async with serving(certificate) as port:
        for files in ({**old.files, wrong: new.files[wrong]}, {**old.files, wrong: b"no certificate"}):
            mounted.replace(files)
            certificate.reload()
            await ask(port, old.context(trusts=old))
        mounted.replace(new.files)
        certificate.reload()
        await ask(port, new.context(trusts=new))


async def test_its_end_is_a_metric(
    certificate: ServingCertificate, mounted: MountedSecret, new: Side
) -> None:
    def expires() -> float | None:
        return REGISTRY.get_sample_value("orderplane_webhook_certificate_expiry_timestamp_seconds")

    before = expires()
    assert before is not None
    mounted.replace(new.files)
    certificate.reload()
    after = expires()
    assert after is not None
    assert after >= before


def test_it_does_not_start_with_a_file_that_is_none(tmp_path: Path, old: Side) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises((OSError, ValueError)):
        ServingCertificate(empty, empty, None)
