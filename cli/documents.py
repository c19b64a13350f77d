"""What commands print with `--json`; docs/cli.md lists the members.

Those of `orders`, `prices` and `webhooks` print what the gateway answers: `client.responses`.
"""

import typer
from pydantic import BaseModel, ConfigDict, RootModel
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """A JSON object with names in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")


def print_json(document: BaseModel) -> None:
    """Print a document to standard output."""
    typer.echo(document.model_dump_json(by_alias=True, indent=2))


class AuditViolation(Document):
    """One broken invariant."""

    invariant: str
    subject: str
    detail: str


class AuditNotice(Document):
    """Something to know that is no violation."""

    subject: str
    detail: str


class Audit(Document):
    """`audit`. `open` are the orders that are not finished; `counts` is how much of what was compared."""

    clean: bool
    violations: tuple[AuditViolation, ...]
    notices: tuple[AuditNotice, ...]
    open: tuple[str, ...]
    counts: dict[str, int]


class OpenOrder(Document):
    """An order that is not sealed."""

    namespace: str
    name: str
    state: str


class Drain(Document):
    """`drain`. `newOrders`: whether new orders are allowed; null where nobody asked or changed it."""

    drained: bool
    open: tuple[OpenOrder, ...]
    new_orders: bool | None


class DeadLetter(Document):
    """One dead letter. Without `partition` and `offset` where its event came from the history."""

    number: int
    reason: str
    detail: str
    consumer: str
    channel: str | None
    topic: str
    partition: int | None
    offset: int | None
    event_id: str | None


class DeadLetters(RootModel[tuple[DeadLetter, ...]]):
    """`dlq list`."""


class DeadLetterRecord(DeadLetter):
    """`dlq show`: with the original record as text."""

    key: str | None
    headers: dict[str, str | None]
    value: str | None


class ReplayedLetter(Document):
    """What became of one dead letter; `states` is by channel."""

    number: int
    verdict: str
    detail: str
    states: dict[str, str]


class Replay(RootModel[tuple[ReplayedLetter, ...]]):
    """`dlq replay`."""


class NotificationCount(Document):
    """How many messages of a channel are in a state; `oldestWaitsSeconds` is null unless they wait."""

    channel: str
    state: str
    messages: int
    oldest_waits_seconds: float | None


class Notifications(RootModel[tuple[NotificationCount, ...]]):
    """`notifications`."""


class Installed(Document):
    """`crds install`: what was installed or updated."""

    installed: tuple[str, ...]


class Migrated(Document):
    """`migrate`: how many migrations were applied."""

    applied: int


class CertificateRenewal(Document):
    """`renew-certificate`: what was done, as a sentence."""

    done: str


class User(Document):
    """`users add`."""

    id: str
    email: str
    role: str
    merchant: str
    confirmed: bool


class Client(Document):
    """`clients add`. The secret is shown only once."""

    client_id: str
    client_secret: str
    name: str
    merchant: str


class Key(Document):
    """`keys new`: the file of the key."""

    file: str


class EndpointKey(Document):
    """`keys endpoint`: a key for ORDERPLANE_ENDPOINT_KEYS."""

    key: str


class Retry(Document):
    """`retry`: the order that is tried again."""

    namespace: str
    order: str


class Resolution(Document):
    """`resolve`: what was noted as settled by hand."""

    namespace: str
    order: str
    settled: str
    reference: str


class PriceRuleDeletion(Document):
    """`prices delete`: the currency that orders are not taken in any more."""

    currency: str


class WebhookEndpointDeletion(Document):
    """`webhooks delete`: the endpoint that gets nothing any more."""

    endpoint: str


class StockCount(Document):
    """`stock set`. `lost` are the reservations that lost their stock."""

    sku: str
    before: int
    after: int
    reserved: int
    lost: tuple[str, ...]


class Erasure(Document):
    """`erase`: how many archived orders and unfinished requests were emptied, whether there was an account,
    and how many orders are still in the API server."""

    customer: str
    account: bool
    archived: int
    requests: int
    live: int


class Login(Document):
    """`login`. For a service, `role` and `merchant` are null: its token says what it may do."""

    gateway: str
    id: str
    role: str | None
    merchant: str | None


class Logout(Document):
    """`logout`: where."""

    gateway: str


class Version(Document):
    """`version`. `api` is the version of the gateway's API, null without `--gateway`."""

    version: str
    gateway: str | None
    api: str | None
