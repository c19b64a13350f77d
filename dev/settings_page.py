"""docs/settings.md. `python -m orderplane.dev.settings_page > docs/settings.md` writes it anew."""

import inspect
import sys
from collections.abc import Iterable, Iterator

from orderplane.adapters.settings import LedgerSettings, ProcessSettings, Variable, variables_of
from orderplane.console.settings import ConsoleSettings
from orderplane.gateway.settings import GatewaySettings
from orderplane.operator.settings import OperatorSettings
from orderplane.webhook.settings import WebhookSettings
from orderplane.workers.settings import DelivererSettings, NotifierSettings, RelaySettings

PROCESSES: dict[str, type[ProcessSettings]] = {
    "orderplane.gateway.main": GatewaySettings,
    "orderplane.console.main": ConsoleSettings,
    "orderplane.operator.main": OperatorSettings,
    "orderplane.webhook.main": WebhookSettings,
    "orderplane.workers.relay.main": RelaySettings,
    "orderplane.workers.notifier.main": NotifierSettings,
    "orderplane.workers.deliverer.main": DelivererSettings,
}

_HEAD = """\
# Settings

Every process reads its settings from environment variables, once, when it starts. An empty variable counts
as not set. `ORDERPLANE_SECRETS_DIR` names a folder of more settings, one file each with the variable's name:
a mounted Secret. A variable of the environment comes first.

When variables are missing or wrong, the process names all of them and ends with exit code 2; it ends with 0
after SIGTERM or SIGINT, and with 1 when it failed. `--help` prints the settings of one process.

A process that cannot reach PostgreSQL or the API server yet, or whose database is not migrated yet, waits and
logs what it waits for. Meanwhile `/healthz` answers 200, and `/readyz` 503 with the reason.

This page is generated: `python -m orderplane.dev.settings_page > docs/settings.md`.
"""


def page() -> str:
    """The whole page."""
    basic, common = variables_of(ProcessSettings), variables_of(LedgerSettings)
    sections = [_HEAD, "## Every process\n", *_table(basic), "\n## Every process but the console\n"]
    sections += _table(each for each in common if each not in basic)
    for module, settings_class in PROCESSES.items():
        title, _, text = (inspect.getdoc(settings_class) or "").partition("\n\n")
        own = [each for each in variables_of(settings_class) if each not in common]
        sections += [f"\n## `python -m {module}`\n", title]
        if text:
            sections += ["", text]
        sections += ["", *_table(own)]
    return "\n".join(sections) + "\n"


def _table(variables: Iterable[Variable]) -> Iterator[str]:
    yield "| variable | meaning | default | allowed |"
    yield "|---|---|---|---|"
    for each in variables:
        default = "required" if each.default is None else f"`{each.default}`" if each.default else ""
        meaning = each.description.replace("<", "&lt;") + (" Secret." if each.is_secret else "")
        yield f"| `{each.name}` | {meaning} | {default} | {each.allowed} |"


if __name__ == "__main__":
    sys.stdout.write(page())
