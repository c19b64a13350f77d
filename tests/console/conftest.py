"""A browser, and a shop of each test's own with its console.

Imports are inside the fixtures: the unit tests of this folder need no browser.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from ..support.plane import Merchant
    from .shop import Shop


@pytest.fixture(scope="session")
async def browser() -> "AsyncIterator[Browser]":
    """Chromium, without a window."""
    from playwright.async_api import async_playwright

    from orderplane.dev.localplane.browser import find_browser
    from orderplane.dev.localplane.progress import ConsoleProgress

    program = await find_browser(ConsoleProgress())
    async with async_playwright() as playwright:
        # It refuses to have a sandbox of its own where it runs as root; what it loads here is ours.
        started = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield started
        await started.close()


@pytest.fixture
async def shop(merchant: "Merchant", browser: "Browser") -> "AsyncIterator[Shop]":
    """A shop of this test's own."""
    from .shop import shop_of

    async with shop_of(merchant, browser) as opened:
        yield opened
