"""`python -m orderplane.workers.notifier.main`: the notifier as a process."""

import logging
import sys
from contextlib import AsyncExitStack

from orderplane.adapters.dependencies import postgres
from orderplane.adapters.mail.smtp import SmtpServer
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.settings import SettingsError
from orderplane.adapters.sms.twilio import TwilioSms
from orderplane.events.notifications import Channel
from orderplane.workers.notifier.account_plan import AccountMessage
from orderplane.workers.notifier.channels import (
    AccountMailMessenger,
    AccountSmsMessenger,
    MailMessenger,
    Messenger,
    SmsMessenger,
)
from orderplane.workers.notifier.notifier import Messengers, Notifier
from orderplane.workers.notifier.plan import Notification
from orderplane.workers.settings import NotifierSettings

POOL_SIZE = 8

DRAIN_SECONDS = 45.0
"""Longer than leaving the consumer group and writing the results of what is being sent may take."""


async def serve(settings: NotifierSettings, process: Process) -> None:
    """Send messages until the process is asked to stop; then finish what is in hand."""
    # aiokafka would log twenty lines a second while a broker is away; its failures are raised as well.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as stack:
        messengers = await _messengers(settings, process, stack)
        pool = await stack.enter_async_context(postgres(process, size=POOL_SIZE, plans_once=True))
        notifier = Notifier(settings, pool, messengers)
        process.serving(
            lambda: notifier.is_ready,
            kafka=settings.kafka,
            channels=[channel.value for channel, messenger in messengers.of_orders.items() if messenger],
        )
        async with process.halves.running(*notifier.halves(process.stopping), drain_seconds=DRAIN_SECONDS):
            await process.stopping.wait()


async def _messengers(settings: NotifierSettings, process: Process, stack: AsyncExitStack) -> Messengers:
    of_orders: dict[Channel, Messenger[Notification] | None] = dict.fromkeys(Channel)
    of_accounts: dict[Channel, Messenger[AccountMessage] | None] = dict.fromkeys(Channel)
    if settings.smtp_url and settings.mail_from:
        try:
            opened = SmtpServer(settings.smtp_url.get_secret_value())
        except ValueError as problem:
            raise SettingsError(f"ORDERPLANE_SMTP_URL: {problem}.") from None
        server = await stack.enter_async_context(opened)
        process.secrets.on_change("smtp_url", server.use_url)
        of_orders[Channel.EMAIL] = MailMessenger(server, settings.mail_from)
        of_accounts[Channel.EMAIL] = AccountMailMessenger(server, settings.mail_from, settings.account_url)
    if settings.sms_key and settings.sms_from:
        provider = TwilioSms(settings.sms_key.get_secret_value(), settings.sms_from, settings.sms_url)
        sms = await stack.enter_async_context(provider)
        process.secrets.on_change("sms_key", sms.use_login)
        of_orders[Channel.SMS] = SmsMessenger(sms)
        of_accounts[Channel.SMS] = AccountSmsMessenger(sms)
    return Messengers(of_orders, of_accounts)


def main() -> int:
    """Run the notifier; returns the exit code."""
    return run_process("notifier", NotifierSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
