"""`python -m orderplane.sandbox.mail`"""

import os
import sys

from orderplane.sandbox.exchange import Surface
from orderplane.sandbox.mail.app import build
from orderplane.sandbox.process import run
from orderplane.sandbox.store import Store


def _build(key: str, store: Store) -> Surface:
    port = os.environ.get("ORDERPLANE_SMTP_PORT", "")
    if not port.isdecimal():
        raise ValueError("ORDERPLANE_SMTP_PORT not set; set it before the sandbox is started")
    return build(key, store, smtp_port=int(port))


sys.exit(run("mail", "ORDERPLANE_MAILBOX_KEY", _build))
