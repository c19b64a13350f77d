"""What the demo says of messages: none missing, none twice."""

from collections import Counter
from uuid import UUID

import pytest

from orderplane.dev.demo.messages import Messages, compare
from orderplane.events.notifications import Channel

BOTH, MAIL_ONLY, NEITHER = (
    {"email": True, "sms": True}, {"email": True, "sms": False}, {"email": False, "sms": False},
)  # fmt: skip
EVENT = UUID(int=7)
MAIL, SMS = str(EVENT), EVENT.hex[:12]


@pytest.mark.parametrize(
    ("type_", "preferences", "mails", "texts", "expected"),
    [
        ("order.shipped", BOTH, {MAIL: 1}, {SMS: 1}, (1, 1, 0, 0)),
        ("order.shipped", BOTH, {MAIL: 1}, {}, (1, 0, 1, 0)),
        ("order.shipped", BOTH, {}, {}, (0, 0, 2, 0)),
        ("order.shipped", MAIL_ONLY, {MAIL: 1}, {}, (1, 0, 0, 0)),
        ("order.shipped", NEITHER, {}, {}, (0, 0, 0, 0)),
        ("order.shipped", BOTH, {MAIL: 2}, {SMS: 1}, (1, 1, 0, 1)),
        ("order.created", BOTH, {MAIL: 1}, {}, (1, 0, 0, 0)),
        ("payment.success", BOTH, {}, {}, (0, 0, 0, 0)),
        ("order.created", BOTH, {MAIL: 1, "stray": 3}, {}, (1, 0, 0, 1)),
    ],
)
def test_what_is_due_and_what_is_there(type_, preferences, mails, texts, expected):
    row = {"event_id": EVENT, "type": type_, "preferences": preferences}
    found = compare([row], {Channel.EMAIL: Counter(mails), Channel.SMS: Counter(texts)})
    arrived = [found.arrived[channel.value][type_] for channel in (Channel.EMAIL, Channel.SMS)]
    assert (*arrived, len(found.missing), len(found.repeated)) == expected


def test_what_cannot_be_looked_into_is_left_out():
    row = {"event_id": EVENT, "type": "order.shipped", "preferences": BOTH}
    assert compare([row], {}) == Messages({}, (), ())
