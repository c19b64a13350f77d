"""What the routes work with: opened once, shared by all requests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import asyncpg
from fastapi import Depends, Request
from kubernetes.config import ConfigException

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.limits.counters import Counters
from orderplane.adapters.limits.shared import open_counters
from orderplane.adapters.postgres.pool import open_pool
from orderplane.gateway.background import running
from orderplane.gateway.idempotent_create import IdempotentCreate
from orderplane.gateway.identity.authentication import AccountCache, OwnTokens
from orderplane.gateway.identity.grants import AccountServices, Grants, LoginThrottle
from orderplane.gateway.identity.keyring import KeyRing, SigningKeysMissing
from orderplane.gateway.identity.login_store import LoginStore
from orderplane.gateway.identity.oidc import OidcIssuer, OidcTokens
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.tokens import TokenRules
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.principal import Authentication
from orderplane.gateway.settings import Settings
from orderplane.gateway.traffic.load_shedding import LoadShedding
from orderplane.gateway.traffic.order_backlog import PostgresOrderBacklog
from orderplane.ledgers.gate import GateLedger
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.idempotency import PostgresIdempotency
from orderplane.ledgers.postgres.inventory import PostgresInventory
from orderplane.ledgers.postgres.price_list import PostgresPriceList
from orderplane.ledgers.postgres.products import ProductStore
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.postgres.timeline import PostgresTimelineReader
from orderplane.ledgers.pricing import PriceList

POOL_SIZE = 8
API_SECONDS = 5.0
"""The most that one request to the API server may take; `idempotent_create.LEASE_SECONDS` counts on it."""


class StartError(Exception):
    """A part that is needed cannot be had; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Services:
    """See the module."""

    api: ApiClient
    price_list: PriceList
    gates: GateLedger
    idempotency: PostgresIdempotency
    products: ProductStore
    inventory: PostgresInventory
    timelines: PostgresTimelineReader
    counters: Counters
    load_shedding: LoadShedding
    idempotent_create: IdempotentCreate
    authentication: Authentication
    identity: AccountServices | None


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Open the connections, and close them after the block.

    Raises:
        StartError: the database cannot be reached, or there is no usable kubeconfig.
    """
    async with AsyncExitStack() as stack:
        pool = await _open_pool(settings.postgres_dsn)
        stack.push_async_callback(pool.close)
        api = await stack.enter_async_context(await _connect())
        idempotency = PostgresIdempotency(pool)
        counters = await stack.enter_async_context(open_counters(settings.redis_url))
        shedding = LoadShedding(
            PostgresOrderBacklog(pool), lambda: api.pushback, shed_after=settings.shed_after_seconds
        )
        authentication, identity = await _identities(stack, settings, pool, counters)
        yield Services(
            api=api,
            price_list=PostgresPriceList(pool),
            gates=PostgresGateLedger(pool),
            idempotency=idempotency,
            products=ProductStore(pool),
            inventory=PostgresInventory(pool),
            timelines=PostgresTimelineReader(pool),
            counters=counters,
            load_shedding=shedding,
            idempotent_create=IdempotentCreate(idempotency, api),
            authentication=authentication,
            identity=identity,
        )


async def _identities(
    stack: AsyncExitStack, settings: Settings, pool: Pool, counters: Counters
) -> tuple[Authentication, AccountServices | None]:
    if settings.outside_issuer is not None:
        outside = settings.outside_issuer
        rules = TokenRules(
            outside.issuer, settings.audience, outside.merchant_claim, outside.role_claim, types=()
        )
        return OidcTokens(OidcIssuer(outside.issuer), rules), None
    if settings.signing_keys is None:
        raise StartError("There are no keys to sign tokens with. Set ORDERPLANE_SIGNING_KEYS.")
    try:
        ring = KeyRing(settings.signing_keys)
    except SigningKeysMissing as error:
        raise StartError(str(error)) from error
    rules = TokenRules(settings.issuer, settings.audience)
    users, logins, throttle = UserStore(pool), LoginStore(pool), LoginThrottle(counters)
    passwords = await stack.enter_async_context(Passwords())
    identity = AccountServices(
        merchant=settings.merchant,
        trusted_proxies=settings.trusted_proxies,
        users=users,
        logins=logins,
        passwords=passwords,
        ring=ring,
        throttle=throttle,
        grants=Grants(users, logins, passwords, throttle, ring, rules),
    )
    roll = AccountCache(users)
    await stack.enter_async_context(running("watch-accounts", roll.watch()))
    return OwnTokens(ring, rules, roll), identity


async def _open_pool(dsn: str) -> Pool:
    try:
        return await open_pool(dsn, size=POOL_SIZE)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise StartError(
            f"PostgreSQL cannot be reached ({type(error).__name__}). "
            "See that it runs, and that ORDERPLANE_POSTGRES_DSN is right."
        ) from error


async def _connect() -> ApiClient:
    try:
        return await ApiClient.connect(user_agent="orderplane-gateway", timeout_seconds=API_SECONDS)
    except ConfigException as error:
        raise StartError(
            f"There is no usable kubeconfig ({error}). Set KUBECONFIG, or run in a cluster."
        ) from error


async def services(request: Request) -> Services:
    """The services of this app."""
    opened: Services = request.app.state.services
    return opened


ServicesDep = Annotated[Services, Depends(services)]
