"""The token file."""

import asyncio
import stat
from pathlib import Path

from orderplane.cli.token_file import TokenFile, url_in
from orderplane.client.accounts import Tokens

URL = "http://127.0.0.1:8080"
ADA = Tokens("access", 1000.0, "refresh")


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "config" / "login.json"
    TokenFile(file, URL).write(ADA)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert TokenFile(file, URL).read() == ADA
    assert url_in(file) == URL
    assert [path.name for path in file.parent.iterdir()] == ["login.json"]


def test_another_gateway_gets_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    file = tmp_path / "login.json"
    TokenFile(file, URL).write(ADA)
    other = TokenFile(file, "http://evil.example")
    assert other.read() is None
    other.write(None)
    assert TokenFile(file, URL).read() == ADA


def test_what_cannot_be_read_is_nobody(tmp_path: Path) -> None:
    file = tmp_path / "login.json"
    for content in ("", "[]", '{"url": "x"}'):
        file.write_text(content)
        assert TokenFile(file, URL).read() is None
    assert url_in(tmp_path / "none") is None


def test_logging_out_leaves_no_token(tmp_path: Path) -> None:
    file = tmp_path / "login.json"
    tokens = TokenFile(file, URL)
    tokens.write(ADA)
    tokens.write(None)
    tokens.write(None)
    assert not file.exists()


async def test_one_command_at_a_time_refreshes(tmp_path: Path) -> None:
    inside = 0

    async def refresh() -> None:
        nonlocal inside
        async with TokenFile(tmp_path / "login.json", URL).locked():
            inside += 1
            assert inside == 1
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(refresh() for _ in range(4)))
