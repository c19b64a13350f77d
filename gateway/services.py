"""What the routes work with: opened once, shared by all requests."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from orderplane.adapters.dependencies import api_server, postgres
from orderplane.adapters.halves import Half
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.adapters.limits.counters import Counters
from orderplane.adapters.limits.shared import open_counters
from orderplane.adapters.payments.stripe_currencies import charge_limits
from orderplane.adapters.process import Process
from orderplane.adapters.settings import SettingsError
from orderplane.adapters.webhook_endpoints.addresses import Networks
from orderplane.adapters.webhook_endpoints.secrets import EndpointSecrets
from orderplane.crds.meta import Kind
from orderplane.gateway.idempotent_create import IdempotentCreate
from orderplane.gateway.identity.account_changes import listen_for_changes
from orderplane.gateway.identity.account_messages import AccountMessages
from orderplane.gateway.identity.authentication import AccountCache, OwnTokens
from orderplane.gateway.identity.confirmations import Confirmations
from orderplane.gateway.identity.grants import AccountServices, Grants
from orderplane.gateway.identity.keyring import KeyRing, SigningKeysMissing
from orderplane.gateway.identity.login_store import LoginStore
from orderplane.gateway.identity.login_throttle import KnownAddresses, LoginThrottle
from orderplane.gateway.identity.message_limits import MessageLimits
from orderplane.gateway.identity.oidc import OidcIssuer, OidcTokens
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.tokens import TokenRules
from orderplane.gateway.identity.user_store import UserStore
from orderplane.gateway.operations.overview_reader import OverviewReader
from orderplane.gateway.orders.held_orders import HeldOrders
from orderplane.gateway.orders.order_feed import OrderFeed
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.orders.order_streams import OrderStreams
from orderplane.gateway.principal import Authentication
from orderplane.gateway.products.availability import Availability
from orderplane.gateway.products.catalogue import Catalogue
from orderplane.gateway.products.reads import ProductReads
from orderplane.gateway.retention import Retention
from orderplane.gateway.settings import GatewaySettings
from orderplane.gateway.traffic.load_shedding import LoadShedding
from orderplane.gateway.traffic.order_backlog import PostgresOrderBacklog
from orderplane.gateway.traffic.stream_places import StreamPlaces
from orderplane.ledgers.gate import GateLedger
from orderplane.ledgers.postgres.actions import ActionLog
from orderplane.ledgers.postgres.archived_lists import PostgresArchivedLists
from orderplane.ledgers.postgres.cancellation import PostgresCancellations
from orderplane.ledgers.postgres.customer_messages import CustomerMessages
from orderplane.ledgers.postgres.gate import PostgresGateLedger
from orderplane.ledgers.postgres.history import PostgresTimelineReader
from orderplane.ledgers.postgres.idempotency import PostgresIdempotencyStore
from orderplane.ledgers.postgres.inventory import PostgresInventory
from orderplane.ledgers.postgres.price_rules import PriceRuleStore
from orderplane.ledgers.postgres.products import PostgresPriceList, ProductStore
from orderplane.ledgers.postgres.refunds import PostgresRefundLedger
from orderplane.ledgers.postgres.retention import PostgresRetention
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.postgres.settlement import settle_by_hand
from orderplane.ledgers.postgres.webhook_endpoints import WebhookEndpointStore
from orderplane.ledgers.pricing import ChargeLimits, PriceList
from orderplane.ledgers.refunds import RefundLedger

POOL_SIZE = 8
API_SECONDS = 5.0
"""The most that one request to the API server may take; `idempotent_create.LEASE_SECONDS` counts on it."""


@dataclass(frozen=True, slots=True)
class Services:
    """See the module."""

    api: ApiClient
    stored_prices: PriceList
    charge_limits: Mapping[str, ChargeLimits]
    gates: GateLedger
    cancellations: PostgresCancellations
    idempotency: PostgresIdempotencyStore
    products: ProductStore
    price_rules: PriceRuleStore
    catalogue: Catalogue
    availability: Availability
    product_reads: ProductReads
    inventory: PostgresInventory
    timelines: PostgresTimelineReader
    refunds: RefundLedger
    webhook_endpoints: WebhookEndpointStore
    endpoint_secrets: EndpointSecrets | None
    endpoint_networks: Networks
    counters: Counters
    load_shedding: LoadShedding
    retention: Retention
    idempotent_create: IdempotentCreate
    orders: OrderReader
    order_watch: Reflector
    order_streams: OrderStreams
    authentication: Authentication
    identity: AccountServices | None
    actions: ActionLog
    messages: CustomerMessages
    overview: OverviewReader
    settle_by_hand: Callable[..., Awaitable[str]]


@asynccontextmanager
async def open_services(settings: GatewaySettings, process: Process) -> AsyncIterator[Services]:
    """Open the connections, and close them after the block.

    Raises:
        SettingsError: there is no usable kubeconfig, or no usable key to sign tokens with.
        Stopped: the process was asked to stop before its dependencies were there.
    """
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(postgres(process, size=POOL_SIZE))
        api = await stack.enter_async_context(api_server(process, timeout_seconds=API_SECONDS))
        idempotency = PostgresIdempotencyStore(pool)
        retention = Retention(PostgresRetention(pool), settings.archive_months)
        counters = await stack.enter_async_context(
            open_counters(settings.redis_url.get_secret_value() if settings.redis_url else None)
        )
        shedding = LoadShedding(
            PostgresOrderBacklog(pool), lambda: api.pushback, shed_after=settings.shed_after_seconds
        )
        held = HeldOrders(settings.held_orders, time.monotonic)
        order_feed = OrderFeed(held)
        order_watch = Reflector(api, Kind.ORDER, held, recorder=order_feed)
        products = ProductStore(pool)
        catalogue = Catalogue(products, max_bytes=settings.catalogue_megabytes * 1_000_000)
        availability = Availability(products)
        await stack.enter_async_context(
            process.halves.running(
                Half(
                    "listen to catalogue", partial(catalogue.listen, process.secrets.reader("postgres_dsn"))
                ),
                Half("watch catalogue", catalogue.watch),
            )
        )
        messages = CustomerMessages(pool)
        authentication, identity = await _identities(stack, settings, process, pool, counters)
        yield Services(
            api=api,
            stored_prices=PostgresPriceList(pool),
            charge_limits=charge_limits(settings.least_charges),
            gates=PostgresGateLedger(pool),
            cancellations=PostgresCancellations(pool),
            idempotency=idempotency,
            products=products,
            price_rules=PriceRuleStore(pool),
            catalogue=catalogue,
            availability=availability,
            product_reads=ProductReads(products, catalogue, availability),
            inventory=PostgresInventory(pool),
            timelines=PostgresTimelineReader(pool),
            refunds=PostgresRefundLedger(pool),
            webhook_endpoints=WebhookEndpointStore(pool),
            endpoint_secrets=_endpoint_secrets(settings, process),
            endpoint_networks=settings.endpoint_networks,
            counters=counters,
            load_shedding=shedding,
            retention=retention,
            idempotent_create=IdempotentCreate(idempotency, api),
            orders=OrderReader(api, held, order_watch, PostgresArchivedLists(pool)),
            order_watch=order_watch,
            order_streams=OrderStreams(order_feed, StreamPlaces(settings.max_streams)),
            authentication=authentication,
            identity=identity,
            actions=ActionLog(pool),
            messages=messages,
            overview=OverviewReader(pool, held, messages, time.monotonic),
            settle_by_hand=partial(settle_by_hand, pool),
        )


def _endpoint_secrets(settings: GatewaySettings, process: Process) -> EndpointSecrets | None:
    if settings.endpoint_keys is None:
        return None
    found = EndpointSecrets(settings.endpoint_keys.get_secret_value())
    process.secrets.on_change("endpoint_keys", found.use_keys)
    return found


async def _identities(
    stack: AsyncExitStack, settings: GatewaySettings, process: Process, pool: Pool, counters: Counters
) -> tuple[Authentication, AccountServices | None]:
    if settings.oidc_issuer is not None:
        rules = TokenRules(
            settings.oidc_issuer,
            settings.audience,
            settings.oidc_merchant_claim,
            settings.oidc_role_claim,
            types=(),
        )
        return OidcTokens(OidcIssuer(settings.oidc_issuer), rules), None
    assert settings.signing_keys is not None, "the settings have either of the two"
    try:
        ring = KeyRing(settings.signing_keys)
    except SigningKeysMissing as error:
        raise SettingsError(f"ORDERPLANE_SIGNING_KEYS: {error}") from error
    rules = TokenRules(settings.own_issuer, settings.audience)
    users, logins, throttle = UserStore(pool), LoginStore(pool), LoginThrottle(counters, KnownAddresses(pool))
    accounts = AccountCache(users)
    passwords = await stack.enter_async_context(Passwords())
    identity = AccountServices(
        merchant=settings.merchant,
        trusted_proxies=settings.trusted_proxies,
        takes_smtputf8=settings.mail_smtputf8,
        accounts=accounts,
        messages=AccountMessages(pool),
        message_limits=MessageLimits(counters if settings.rate_limits else None),
        confirmations=Confirmations(pool),
        users=users,
        logins=logins,
        passwords=passwords,
        ring=ring,
        throttle=throttle,
        grants=Grants(users, logins, passwords, throttle, ring, rules),
    )
    dsn = process.secrets.reader("postgres_dsn")
    await stack.enter_async_context(
        process.halves.running(
            Half("listen to accounts", partial(listen_for_changes, dsn, accounts.forget)),
            Half("watch accounts", accounts.watch),
        )
    )
    return OwnTokens(ring, rules, accounts), identity


async def services(request: Request) -> Services:
    """The services of this app."""
    opened: Services = request.app.state.services
    return opened


ServicesDep = Annotated[Services, Depends(services)]
