"""A PostgreSQL, a Kafka, a mail server, an SMS provider, a relay, and notifiers that tests stop and kill."""

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import aiohttp
import pytest

from orderplane.adapters.mail.mailpit import MailpitReader
from orderplane.adapters.postgres.migrate import migrate
from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.sms.twilio import TwilioSms
from orderplane.audit import notifications
from orderplane.audit.collect import STATEMENTS, read_tables
from orderplane.audit.snapshot import Snapshot, Violation
from orderplane.dev.localplane import components
from orderplane.dev.localplane.components import process
from orderplane.dev.localplane.kafka import kafka, kafka_program
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import Supervisor
from orderplane.events.notifications import Channel, message_reference
from orderplane.events.types import EventType
from orderplane.gateway.identity.user_store import User, UserStore
from orderplane.ledgers.postgres.history import append_event
from orderplane.ledgers.postgres.session import Pool, session, transaction

from ...cli.terminal import Answer, orderplane
from ..relay.conftest import until

MAILBOX_LOGIN, SMS_LOGIN, SMS_SENDER = "reader:secret", "AC01:token", "+15005550006"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LEASE_SECONDS = 3

_SCHEMAS = resources.files("orderplane.events") / "schemas"


def example_of(type_: EventType) -> dict[str, Any]:
    """The event's data as its contract gives it."""
    found: dict[str, Any] = json.loads((_SCHEMAS / f"{type_.value}.json").read_text())["examples"][0]
    return found


@dataclass
class NotifierStage:
    """All that runs, and one merchant of a test's own."""

    supervisor: Supervisor
    state: Path
    env: dict[str, str]
    ports: dict[str, int]
    pool: Pool
    mailbox: MailpitReader
    sms: TwilioSms
    merchant: str = ""
    notifiers: dict[str, int] = field(default_factory=dict)

    until = staticmethod(until)

    async def start_notifier(self, name: str = "notifier", **env: str) -> None:
        self.notifiers[name] = free_port()
        built = process(
            "notifier", {**self.env, **env}, http_port=0, metrics_port=self.notifiers[name], state=self.state
        )
        await self.supervisor.start(replace(built, name=f"{self.merchant}-{name}"))

    async def stop_notifier(self, name: str = "notifier") -> None:
        await self.supervisor.stop(f"{self.merchant}-{name}")

    async def kill_notifier(self, name: str = "notifier") -> None:
        await self.supervisor.kill(f"{self.merchant}-{name}")

    def log(self, name: str = "notifier") -> str:
        return self.supervisor.log_of(f"{self.merchant}-{name}").read_text()

    async def metric(self, name: str, notifier: str = "notifier", **labels: str) -> float:
        """The sum over the labels that are not given."""
        url = f"http://127.0.0.1:{self.notifiers[notifier]}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            lines = (await answer.text()).splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in lines
            if line.startswith((f"{name} ", f"{name}{{")) and all(each in line for each in wanted)
        )

    async def command(self, *words: str) -> Answer:
        return await orderplane(*words, env=self.env)

    async def customer(
        self, *, email: str | None = None, phone: str | None = None, sms: bool = False, mail: bool = True
    ) -> User:
        users = UserStore(self.pool)
        made = await users.add(
            self.merchant, f"u-{secrets.token_hex(6)}", email=email or f"{secrets.token_hex(6)}@example.org",
            password_hash="none", role="customer", name="Ada",
            phone=phone or f"+4930{secrets.randbelow(10**8):08d}", is_confirmed=True,
        )  # fmt: skip
        return await self.change(made, preferences={"email": mail, "sms": sms})

    async def change(self, customer: User, **changes: Any) -> User:
        changed = await UserStore(self.pool).change(self.merchant, customer.id, changes)
        assert changed is not None
        return changed

    async def move(self, customer: User, email: str) -> None:
        """The customer has another address."""
        async with session(self.pool) as connection:
            await connection.execute(
                "UPDATE users SET email = $3 WHERE merchant = $1 AND id = $2",
                self.merchant,
                customer.id,
                email,
            )  # fmt: skip

    async def record(
        self, customer: str, *types: EventType, order: UUID | None = None, after: int = 0, without: str = ""
    ) -> dict[EventType, UUID]:
        """Write an order's events as the ledgers do, one transaction each; answers their ids."""
        uid = order or uuid4()
        name = f"o-{uid.hex[:12]}"
        for seq, type_ in enumerate(types, start=after + 1):
            data = example_of(type_) | {"merchant": self.merchant, "order": {"name": name, "uid": str(uid)}}
            data.pop(without, None)
            if type_ is EventType.ORDER_CREATED:
                data["customer"] = customer
            async with transaction(self.pool) as connection:
                await append_event(
                    connection, type_=type_, effect=uid, merchant=self.merchant, subject=uid, name=name,
                    seq=seq, data=data, traceparent=TRACEPARENT,
                )  # fmt: skip
        async with session(self.pool) as connection:
            rows = await connection.fetch("SELECT type, event_id FROM history WHERE subject = $1", uid)
        return {EventType(row["type"]): row["event_id"] for row in rows}

    async def rows(self) -> dict[tuple[UUID, str], Any]:
        """The merchant's messages by event and channel."""
        async with session(self.pool) as connection:
            rows = await connection.fetch("SELECT * FROM notifications WHERE merchant = $1", self.merchant)
        return {(row["event_id"], row["channel"]): row for row in rows}

    async def account_rows(self) -> list[Any]:
        """The merchant's messages about accounts, the oldest first."""
        async with session(self.pool) as connection:
            return await connection.fetch(
                "SELECT * FROM account_messages WHERE merchant = $1 ORDER BY created_at", self.merchant
            )

    async def account_message_ended(self, address: str, state: str = "Sent") -> Any:
        """Wait until the newest message to an address has ended so; answers its row."""

        async def newest() -> Any:
            return [row for row in await self.account_rows() if row["address"] == address][-1]

        async def has_ended() -> bool:
            return bool((await newest())["state"] == state)

        await until(has_ended, f"the newest message to {address} is {state}", seconds=40)
        return await newest()

    async def sms_to(self, number: str) -> list[str]:
        """The texts of the SMS to a number, the oldest first."""
        account = SMS_LOGIN.partition(":")[0]
        path = f"/2010-04-01/Accounts/{account}/Messages.json?PageSize=1000&To={quote(number)}"
        page = await self._ask("sms", "GET", path)
        return [message["body"] for message in reversed(page["messages"])]

    async def ended(
        self, event: UUID, channel: Channel = Channel.EMAIL, state: str = "Sent", *, seconds: float = 40
    ) -> Any:
        """Wait until a message has ended so; answers its row."""

        async def has_ended() -> bool:
            row = (await self.rows()).get((event, channel))
            return row is not None and row["state"] == state

        await until(has_ended, f"{channel} about {event} is {state}", seconds=seconds)
        return (await self.rows())[event, channel]

    async def copies(self) -> Counter[str]:
        """What arrived anywhere, by reference."""
        return Counter(
            [each async for each in self.mailbox.references()]
            + [each async for each in self.sms.references()]
        )

    async def arrived(self, event: UUID, channel: Channel = Channel.EMAIL) -> int:
        return (await self.copies())[message_reference(event, channel)]

    async def mails_to(self, address: str) -> list[dict[str, Any]]:
        """Whole mails, the oldest first."""
        page = await self._ask("mail", "GET", "/api/v1/messages?limit=100000")
        return [
            await self._ask("mail", "GET", f"/api/v1/message/{summary['ID']}")
            for summary in reversed(page["messages"])
            if summary["To"][0]["Address"] == address
        ]

    async def trouble(self, mode: str, **how: Any) -> None:
        await self._ask("mail", "POST", "/_sandbox/smtp-faults", json={"mode": mode, **how})

    async def faults(self, mode: str, **how: Any) -> None:
        await self._ask("sms", "POST", "/_sandbox/faults", json={"mode": mode, **how})

    async def _ask(self, sandbox: str, verb: str, path: str, **body: Any) -> dict[str, Any]:
        login = MAILBOX_LOGIN if sandbox == "mail" else SMS_LOGIN
        headers = {"Authorization": f"Bearer {login}"}
        url = f"http://127.0.0.1:{self.ports[sandbox]}{path}"
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(verb, url, **body) as answer,
        ):
            assert answer.status == 200, await answer.text()
            document: dict[str, Any] = await answer.json()
            return document

    async def violations(self) -> list[Violation]:
        """What the audit finds about notifications, here where there are no resources to compare."""
        tables: dict[str, Sequence[Any]] = {table: [] for table in STATEMENTS}
        tables |= {
            table: [row for row in rows if row.get("merchant") == self.merchant]
            for table, rows in (await read_tables(self.pool)).items()
        }
        own = {row["id"] for row in await self.account_rows()}
        tables["account_messages"] = [
            row for row in (await read_tables(self.pool))["account_messages"] if row["id"] in own
        ]
        known = {
            message_reference(event, Channel(channel)): Channel(channel)
            for event, channel in [
                *await self.rows(),
                *((row["id"], row["channel"]) for row in await self.account_rows()),
            ]
        }
        outgoing: dict[Channel, list[str]] = {channel: [] for channel in Channel}
        for reference, count in (await self.copies()).items():
            if reference in known:
                outgoing[known[reference]] += [reference] * count
        snapshot = Snapshot(datetime.now(UTC), tables, {}, (), (), (), (), None, outgoing)
        return [
            violation
            for check in (
                notifications.every_due_message_has_a_row,
                notifications.nothing_wanted_is_withheld,
                notifications.nothing_goes_to_an_unconfirmed_address,
                notifications.messages_go_out_once,
                notifications.messages_keep_their_order,
            )
            for violation in check(snapshot)
        ]


@asynccontextmanager
async def _opened(state: Path) -> AsyncIterator[NotifierStage]:
    ports = {
        name: free_port() for name in ("kafka", "controller", "postgres", "mail", "smtp", "sms", "relay")
    }
    program = await kafka_program(ConsoleProgress())
    broker = kafka(program, state, ports["kafka"], ports["controller"])
    database, dsn = components.postgres(state, ports["postgres"])
    env = {
        "ORDERPLANE_POSTGRES_DSN": dsn,
        "ORDERPLANE_KAFKA": f"127.0.0.1:{ports['kafka']}",
        "ORDERPLANE_SMTP_PORT": str(ports["smtp"]),
        "ORDERPLANE_SMTP_URL": f"smtp://127.0.0.1:{ports['smtp']}",
        "ORDERPLANE_MAIL_FROM": "Shop <orders@shop.example>",
        "ORDERPLANE_MAILBOX_KEY": MAILBOX_LOGIN,
        "ORDERPLANE_SMS_URL": f"http://127.0.0.1:{ports['sms']}",
        "ORDERPLANE_SMS_KEY": SMS_LOGIN,
        "ORDERPLANE_SMS_FROM": SMS_SENDER,
        "ORDERPLANE_NOTIFIER_LEASE_SECONDS": str(LEASE_SECONDS),
    }
    async with Supervisor(state / "logs") as supervisor:
        await supervisor.start(database)
        await supervisor.start(broker)
        await migrate(dsn)
        for name in ("mail", "sms", "relay"):
            port = ports[name]
            await supervisor.start(process(name, env, http_port=port, metrics_port=port, state=state))
        pool = await open_pool(dsn, size=4)
        async with (
            MailpitReader(f"http://127.0.0.1:{ports['mail']}", MAILBOX_LOGIN) as mailbox,
            TwilioSms(SMS_LOGIN, SMS_SENDER, env["ORDERPLANE_SMS_URL"]) as sms,
        ):
            yield NotifierStage(supervisor, state, env, ports, pool, mailbox, sms)
        await pool.close()


@pytest.fixture(scope="session")
async def kept_stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NotifierStage]:
    state = tmp_path_factory.mktemp("notifier")
    async with _opened(state) as stage:
        yield stage
    components.remove_postgres(state)


@pytest.fixture
async def stage(kept_stage: NotifierStage) -> AsyncIterator[NotifierStage]:
    """A merchant of this test's own, and no notifier yet."""
    own = replace(kept_stage, merchant=f"shop-{secrets.token_hex(4)}", notifiers={})
    yield own
    await own.trouble("ok")
    await own.faults("ok")
    for name in own.notifiers:
        await own.stop_notifier(name)
