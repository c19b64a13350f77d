"""Connections to the API server, the database and the providers, for commands that need all of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.mail.mailpit import MailpitReader
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.sms.twilio import TWILIO, TwilioSms
from orderplane.audit.collect import collect
from orderplane.audit.snapshot import Snapshot
from orderplane.events.notifications import Channel
from orderplane.ledgers.postgres.session import Pool
from orderplane.workers.notifier.channels import Outgoing


@dataclass(frozen=True, slots=True)
class Backends:
    """Open connections to everything that Orderplane uses.

    Args:
        channels: The notification channels whose sent messages can be listed.
    """

    api: ApiClient
    pool: Pool
    payment_provider: StripeProvider
    carrier: EasyPostCarrier
    kafka: str
    channels: Mapping[Channel, Outgoing] = field(default_factory=dict)

    async def snapshot(self) -> Snapshot:
        """Read everything that the audit compares, once."""
        return await collect(
            self.api, self.pool, self.payment_provider, self.carrier, self.kafka, self.channels
        )


@asynccontextmanager
async def open_backends(env: dict[str, str]) -> AsyncIterator[Backends]:
    """Connect to what `env` names: `ORDERPLANE_*` and `KUBECONFIG`.

    `ORDERPLANE_MAILBOX_URL` and `_KEY` (`user:password`) are those of a mail sink, `ORDERPLANE_SMS_KEY` and
    `_FROM` those of the SMS provider; without them the channel is left out.

    Raises:
        KeyError: a variable is missing.
        OSError, asyncpg.PostgresError: something cannot be reached.
    """
    pool = await open_pool(env["ORDERPLANE_POSTGRES_DSN"], size=4)
    try:
        async with (
            await ApiClient.connect(
                user_agent="orderplane-cli", timeout_seconds=30, kubeconfig=env.get("KUBECONFIG")
            ) as api,
            StripeProvider(
                env["ORDERPLANE_PAYMENTS_KEY"], env["ORDERPLANE_PAYMENTS_URL"]
            ) as payment_provider,
            EasyPostCarrier(env["ORDERPLANE_CARRIER_KEY"], env["ORDERPLANE_CARRIER_URL"]) as carrier,
            AsyncExitStack() as stack,
        ):
            channels = await _channels(env, stack)
            yield Backends(api, pool, payment_provider, carrier, env.get("ORDERPLANE_KAFKA", ""), channels)
    finally:
        await pool.close()


async def _channels(env: dict[str, str], stack: AsyncExitStack) -> dict[Channel, Outgoing]:
    channels: dict[Channel, Outgoing] = {}
    if env.get("ORDERPLANE_MAILBOX_URL"):
        mailbox = MailpitReader(env["ORDERPLANE_MAILBOX_URL"], env["ORDERPLANE_MAILBOX_KEY"])
        channels[Channel.EMAIL] = await stack.enter_async_context(mailbox)
    if env.get("ORDERPLANE_SMS_KEY"):
        sms = TwilioSms(
            env["ORDERPLANE_SMS_KEY"], env["ORDERPLANE_SMS_FROM"], env.get("ORDERPLANE_SMS_URL") or TWILIO
        )
        channels[Channel.SMS] = await stack.enter_async_context(sms)
    return channels
