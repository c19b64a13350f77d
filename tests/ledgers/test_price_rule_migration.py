"""Migration 5: what price rules were, and the version before beside this one."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orderplane.adapters.postgres.migrate import migrate
from orderplane.adapters.postgres.pool import open_pool
from orderplane.ledgers.postgres.price_rules import PriceRuleStore
from orderplane.ledgers.postgres.products import PostgresPriceList
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.price_rules import CountryTax, PriceRule, ShippingZone, WeightStep

from ..support.price_rules import flat, in_force, set_price_rules

pytestmark = pytest.mark.integration

MIGRATIONS = sorted((Path(__file__).parents[2] / "ledgers" / "migrations").glob("*.sql"))

READ_BY_VERSION_BEFORE = (
    "SELECT currency, shipping_amount, tax_basis_points FROM price_rules ORDER BY currency"
)

TWO_ZONES = PriceRule(
    shipping=(
        ShippingZone(
            countries=("DE",), by_weight=(WeightStep(up_to_grams=5, amount=390), WeightStep(amount=9))
        ),
        ShippingZone(by_weight=(WeightStep(amount=1990),)),
    ),
    tax_included=False,
    taxes=(CountryTax(countries=("DE",), basis_points=1900), CountryTax(basis_points=0)),
)


@pytest.fixture
async def pool(plane: Any) -> AsyncIterator[Pool]:
    """A database of the version before, with two rules, that was migrated."""
    name = f"own_{secrets.token_hex(4)}"
    dsn = plane.postgres_dsn.rpartition("/")[0] + f"/{name}"
    admin = await asyncpg.connect(plane.postgres_dsn, timeout=10)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close(timeout=5)
    before = await asyncpg.connect(dsn, timeout=10)
    await before.execute(
        "CREATE TABLE migrations (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
    )
    for file in MIGRATIONS:
        if file.name < "0005":
            await before.execute(file.read_text(encoding="utf-8"))
            await before.execute("INSERT INTO migrations (name) VALUES ($1)", file.name)
    await before.execute(
        "INSERT INTO price_rules VALUES ('shop', 'EUR', 490, 1900), ('shop', 'JPY', 800, 1000)"
    )
    await before.close(timeout=5)
    await migrate(dsn)
    opened = await open_pool(dsn, size=2)
    yield opened
    await opened.close()


async def rules_of(pool: Pool) -> Any:
    return (await PostgresPriceList(pool).prices("shop", [])).rules


async def read_by_version_before(pool: Pool) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await pool.fetch(READ_BY_VERSION_BEFORE)]


async def test_the_rules_that_were_there_are_first_versions(pool: Pool) -> None:
    assert await rules_of(pool) == in_force(EUR=flat(490, 1900), JPY=flat(800, 1000))
    newest = await PriceRuleStore(pool).newest("shop", "EUR")
    assert newest is not None
    assert (newest.version, newest.actor) == (1, None)
    assert await read_by_version_before(pool) == [("EUR", 490, 1900), ("JPY", 800, 1000)]


async def test_the_version_before_goes_on_with_what_this_one_sets(pool: Pool) -> None:
    await set_price_rules(pool, "shop", EUR=TWO_ZONES, USD=flat(700, 500, is_included=True))
    assert await read_by_version_before(pool) == [("EUR", 390, 1900), ("JPY", 800, 1000), ("USD", 700, 0)]
    await PriceRuleStore(pool).change("shop", "JPY", lambda _: None)
    assert await read_by_version_before(pool) == [("EUR", 390, 1900), ("USD", 700, 0)]
    assert (await rules_of(pool)).keys() == {"EUR", "USD"}


async def test_what_is_written_as_by_the_version_before_is_a_version(pool: Pool) -> None:
    await pool.execute("INSERT INTO price_rules VALUES ('shop', 'GBP', 300, 2000)")
    await pool.execute("UPDATE price_rules SET shipping_amount = 590 WHERE currency = 'EUR'")
    await pool.execute("DELETE FROM price_rules WHERE currency = 'JPY'")
    rules = await rules_of(pool)
    assert {currency: (it.version, it.rule) for currency, it in rules.items()} == {
        "EUR": (2, flat(590, 1900)),
        "GBP": (1, flat(300, 2000)),
    }
    versions = await PriceRuleStore(pool).versions("shop", "JPY", before=None, limit=10)
    assert [(it.version, it.rule, it.actor) for it in versions] == [
        (2, None, "database:postgres"),
        (1, flat(800, 1000), None),
    ]


async def test_the_page_about_upgrades_lists_the_currencies_without_a_rule(pool: Pool) -> None:
    page = (Path(__file__).parents[2] / "docs" / "upgrade.md").read_text(encoding="utf-8")
    statement = page.partition("```\nSELECT DISTINCT p.merchant")[2].partition("```")[0]
    await pool.execute(
        "INSERT INTO products (merchant, sku, name, currency, unit_amount, other_prices, weight_grams) "
        "VALUES ('shop', 'TEA', 'Tea', 'EUR', 890, '{\"USD\": 990, \"JPY\": 1450}', 120), "
        "('other', 'TEA', 'Tea', 'GBP', 890, '{}', 120)"
    )
    rows = await pool.fetch(f"SELECT DISTINCT p.merchant{statement}")
    assert sorted(tuple(row) for row in rows) == [("other", "GBP"), ("shop", "USD")]
