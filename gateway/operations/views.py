"""How the shop runs, as this API shows it: figures, messages that failed, and who did what."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.gateway.http.documentation import Next, Time, closed
from orderplane.gateway.operations.overview import Figures, percentile
from orderplane.ledgers.postgres.actions import Action
from orderplane.ledgers.postgres.customer_messages import CustomerMessage

MESSAGE_STATES = ("Waiting", "Sent", "Superseded", "Skipped", "Dead")

_Seconds = Annotated[float, Field(examples=[1.5])]


class MinuteView(TypedDict):
    """One minute of the last hour."""

    at: Annotated[Time, Field(description="When it begins.")]
    placed: Annotated[int, Field(examples=[12])]
    finished: Annotated[int, Field(description="Delivered, failed, cancelled, returned.", examples=[11])]


class LatencyView(TypedDict):
    """Seconds from placing an order to its label, over the orders of the last hour; null without any."""

    p50: _Seconds | None
    p95: _Seconds | None


class BacklogView(TypedDict):
    """Orders without a label yet that nothing but their turn holds up."""

    orders: Annotated[int, Field(examples=[3])]
    oldestSeconds: Annotated[_Seconds, Field(description="How old the oldest is; 0 where there is none.")]


class OutboxView(TypedDict):
    """Events that Kafka does not have yet, of all merchants."""

    oldestSeconds: Annotated[_Seconds, Field(description="How old the oldest is; 0 where there is none.")]


class OverviewView(TypedDict):
    """How the orders of a merchant go at one moment."""

    merchant: Annotated[str, Field(description="The namespace of its orders.", examples=["demo"])]
    at: Time
    phases: Annotated[
        dict[str, int],
        Field(description="How many orders are in each phase.", examples=[{"Pending": 2, "Delivered": 811}]),
    ]
    stalled: Annotated[int, Field(description="How many orders wait for a person.", examples=[0])]
    minutes: Annotated[list[MinuteView], Field(description="The last hour, oldest first.")]
    secondsToLabel: LatencyView
    backlog: BacklogView
    outbox: OutboxView
    failedMessages: Annotated[int, Field(description="See `GET /api/failed-messages`.", examples=[0])]


class MessageView(TypedDict):
    """A message to a customer about an order."""

    id: Annotated[str, Field(examples=["6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11.email"])]
    order: Annotated[str, Field(examples=["o-mfrggzdfmztwq2lknnwg23tpoa"])]
    event: Annotated[str, Field(description="What it tells of.", examples=["order.shipped"])]
    channel: Annotated[str, Field(examples=["email"])]
    state: Annotated[
        str,
        Field(
            description="Dead: it was given up. Skipped: it is not wanted, or nobody can be reached. "
            "Superseded: a later one was sent.",
            examples=["Dead"],
            json_schema_extra=closed("MessageState", MESSAGE_STATES),
        ),
    ]
    reason: Annotated[
        str | None, Field(description="Why the last attempt failed.", examples=["MailboxUnavailable"])
    ]
    attempts: Annotated[int, Field(examples=[1])]
    endedAt: Annotated[Time | None, Field(description="When it was sent or given up; null while it is due.")]


class OrderMessagesView(TypedDict):
    """All messages of an order."""

    items: list[MessageView]


class MessageListView(TypedDict):
    """A page of messages that were given up, the last ones first."""

    items: list[MessageView]
    next: Next


class ActionView(TypedDict):
    """One thing that somebody has changed."""

    id: Annotated[str, Field(examples=["1042"])]
    at: Time
    actor: Annotated[
        str,
        Field(
            description="Who: `user:` or `service:` and the id of the account, `kubernetes:` and a name, "
            "`database:` and a role of PostgreSQL.",
            examples=["user:u-3k9x2m7qpl5v8r4t"],
        ),
    ]
    action: Annotated[
        str, Field(description="The kind of object and what was done to it.", examples=["stock.recount"])
    ]
    object: Annotated[str, Field(description="Its name or id.", examples=["TEA-EARL-GREY-100"])]
    before: Annotated[
        dict[str, Any] | None,
        Field(description="What was changed, as it was; null if it is new.", examples=[{"onHand": 40}]),
    ]
    after: Annotated[
        dict[str, Any] | None,
        Field(
            description="The same as it became; null if it is gone.",
            examples=[{"onHand": 38, "reason": "water damage"}],
        ),
    ]


class ActionListView(TypedDict):
    """A page of actions, the newest first."""

    items: list[ActionView]
    next: Next


def overview_view(
    merchant: str, figures: Figures, *, outbox_seconds: float, failed_messages: int
) -> OverviewView:
    """The figures with what the ledgers add."""
    since = figures.waiting_since
    waiting = sum(figures.phases[phase] for phase in ("Pending", "Reserved", "Paid"))
    return {
        "merchant": merchant,
        "at": _time(figures.at),
        "phases": figures.phases,
        "stalled": figures.stalled,
        "minutes": [
            {"at": _time(minute.at), "placed": minute.placed, "finished": minute.finished}
            for minute in figures.minutes
        ],
        "secondsToLabel": {
            "p50": percentile(figures.seconds_to_label, 0.5),
            "p95": percentile(figures.seconds_to_label, 0.95),
        },
        "backlog": {
            "orders": waiting,
            "oldestSeconds": max(0.0, (figures.at - since).total_seconds()) if since else 0.0,
        },
        "outbox": {"oldestSeconds": outbox_seconds},
        "failedMessages": failed_messages,
    }


def message_view(message: CustomerMessage) -> MessageView:
    """One message."""
    return {
        "id": f"{message.event_id}.{message.channel}",
        "order": message.order_name,
        "event": message.type,
        "channel": message.channel,
        "state": message.state,
        "reason": message.reason,
        "attempts": message.attempts,
        "endedAt": _time(message.ended_at) if message.ended_at else None,
    }


def action_view(action: Action) -> ActionView:
    """One action."""
    return {
        "id": str(action.id),
        "at": _time(action.at),
        "actor": action.actor,
        "action": action.action,
        "object": action.object,
        "before": dict(action.before) if action.before is not None else None,
        "after": dict(action.after) if action.after is not None else None,
    }


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
