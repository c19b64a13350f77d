"""The parts of responses about how a shop runs that this client reads; docs/openapi.json describes them."""

from typing import Any

from typing_extensions import TypedDict


class Account(TypedDict):
    """A user, as an admin sees them."""

    id: str
    email: str
    name: str
    role: str
    merchant: str
    emailConfirmed: bool
    createdAt: str


class AccountPage(TypedDict):
    """A page of users; `next` is null on the last page."""

    items: list[Account]
    next: str | None


class Service(TypedDict):
    """A service that calls on its own behalf; `id` is its `client_id`."""

    id: str
    name: str
    createdAt: str


class NewService(Service):
    """A service with its secret, which cannot be read again."""

    secret: str


class ServicePage(TypedDict):
    """A page of services; `next` is null on the last page."""

    items: list[Service]
    next: str | None


class Message(TypedDict):
    """A message to a customer; `endedAt` is null while it is due."""

    id: str
    order: str
    event: str
    channel: str
    state: str
    reason: str | None
    attempts: int
    endedAt: str | None


class OrderMessages(TypedDict):
    """All messages of an order."""

    items: list[Message]


class MessagePage(TypedDict):
    """A page of messages; `next` is null on the last page."""

    items: list[Message]
    next: str | None


class Action(TypedDict):
    """One thing that somebody has changed."""

    id: str
    at: str
    actor: str
    action: str
    object: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ActionPage(TypedDict):
    """A page of actions; `next` is null on the last page."""

    items: list[Action]
    next: str | None


class Minute(TypedDict):
    """One minute of the last hour."""

    at: str
    placed: int
    finished: int


class Latency(TypedDict):
    """Seconds; null without orders."""

    p50: float | None
    p95: float | None


class Backlog(TypedDict):
    """Orders that wait for their turn, and the age of the oldest."""

    orders: int
    oldestSeconds: float


class Outbox(TypedDict):
    """The age of the oldest event that Kafka does not have."""

    oldestSeconds: float


class Overview(TypedDict):
    """How the orders of a merchant go."""

    merchant: str
    at: str
    phases: dict[str, int]
    stalled: int
    minutes: list[Minute]
    secondsToLabel: Latency
    backlog: Backlog
    outbox: Outbox
    failedMessages: int
