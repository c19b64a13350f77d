"""`python -m orderplane.dev.sandbox.mail`"""

import os
import sys

from orderplane.dev.sandbox.exchange import Surface
from orderplane.dev.sandbox.mail.app import build
from orderplane.dev.sandbox.process import run
from orderplane.dev.sandbox.store import Store


def _build(key: str, store: Store) -> Surface:
    port = os.environ.get("ORDERPLANE_SMTP_PORT", "")
    if not port.isdecimal():
        raise ValueError("ORDERPLANE_SMTP_PORT not set; set it before the sandbox is started")
    return build(
        key,
        store,
        smtp_port=int(port),
        host=os.environ.get("ORDERPLANE_HTTP_HOST") or "127.0.0.1",
        takes_smtputf8=os.environ.get("ORDERPLANE_SANDBOX_SMTPUTF8", "") == "1",
    )


sys.exit(run("mail", "ORDERPLANE_MAILBOX_KEY", _build))
