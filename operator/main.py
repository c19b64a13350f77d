"""`python -m orderplane.operator.main`: the operator as a process."""

import math
import sys
from datetime import timedelta
from functools import partial

import kopf

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.adapters.dependencies import api_server, postgres
from orderplane.adapters.halves import PATIENCE_SECONDS, Beat, Half
from orderplane.adapters.kubernetes.crd_revision import check_crds
from orderplane.adapters.kubernetes.kopf_runner import run_kopf
from orderplane.adapters.payments.stripe import StripeProvider
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.retryable import KUBERNETES
from orderplane.controllers.engine.controller import Controller
from orderplane.crds.api_errors import ApiError
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.postgres.session import Pool
from orderplane.operator.census import count_for_ever
from orderplane.operator.ledger_listener import listen_to_ledgers
from orderplane.operator.resync import Resync
from orderplane.operator.settings import OperatorSettings
from orderplane.operator.stateless import NoDiffBase, NoProgress
from orderplane.operator.watch import Watch
from orderplane.operator.wiring import Operator, build

DRAIN_SECONDS = 12.0
"""Longer than a provider call may take: the result of a call that was begun must be written down."""

RECONCILE_SECONDS = 600.0
"""Longer than one reconcile may take: eight steps, each with a few calls that may take a minute each."""

CONNECTIONS = 12
"""To the API server: enough to keep it busy. With more at once nothing is done sooner, and the requests of
other clients wait behind them."""

POOL_SIZE = 16

LANDING_SHARE = 2
"""What a provider has not done within so many of its client's time-outs, it does not do any more."""


async def serve(settings: OperatorSettings, process: Process) -> None:
    """Run the controllers until the process is asked to stop; then finish what is in hand."""
    async with (
        postgres(process, size=POOL_SIZE, plans_once=True) as pool,
        api_server(process, connections=CONNECTIONS) as api,
        StripeProvider(
            settings.payments_key.get_secret_value(),
            settings.payments_url,
            timeout_seconds=settings.payments_seconds,
        ) as payments,
        EasyPostCarrier(
            settings.carrier_key.get_secret_value(),
            settings.carrier_url,
            timeout_seconds=settings.carrier_seconds,
            sender=settings.carrier_sender,
        ) as carrier,
    ):
        process.secrets.on_change("payments_key", payments.use_key)
        process.secrets.on_change("carrier_key", carrier.use_key)
        operator = build(
            api,
            pool,
            payments,
            carrier,
            kinds=settings.controllers,
            member=settings.member,
            confirm_settle=timedelta(seconds=LANDING_SHARE * settings.payments_seconds),
            settle=timedelta(seconds=settings.carrier_settle_seconds),
            first_poll=timedelta(seconds=settings.tracking_first_seconds),
            longest_poll=timedelta(seconds=settings.tracking_longest_seconds),
            rest_rules=settings.rest_rules,
            live_orders=settings.live_orders,
        )
        await process.wait_for("the API server", partial(check_crds, api), KUBERNETES)
        resync = Resync(operator, api)
        await process.wait_for("the first list of all resources", resync.resync, (ApiError, Transient))
        process.serving(controllers=[kind.value for kind in operator.controllers])
        await _run(operator, resync, pool, settings, process)


async def _run(
    operator: Operator, resync: Resync, pool: Pool, settings: OperatorSettings, process: Process
) -> None:
    dsn = process.secrets.reader("postgres_dsn")
    poll_patience = PATIENCE_SECONDS + settings.tracking_first_seconds
    halves = [
        Half("resync", resync.run),
        Half("ledgers", partial(listen_to_ledgers, dsn, operator)),
        Half("census", partial(count_for_ever, pool)),
        *(Half(name, go, patience=poll_patience) for name, go in operator.polls.items()),
        *(_half_of(controller) for controller in operator.controllers.values()),
        # The last: at its end Kopf cancels every task that was not there at its start.
        Half(
            "streams",
            partial(_watch, operator, resync, process),
            finish=process.stopping.set,
            patience=math.inf,
        ),
    ]
    async with process.halves.running(*halves, drain_seconds=DRAIN_SECONDS):
        await process.stopping.wait()


def _half_of(controller: Controller[Gate]) -> Half:
    """A controller works on many keys at once: it is stuck when one of them takes too long."""
    return Half(
        f"{controller.kind.value} controller",
        lambda _: controller.run(),
        finish=controller.stop,
        silence=lambda: controller.longest_seconds,
        patience=RECONCILE_SECONDS,
    )


async def _watch(operator: Operator, resync: Resync, process: Process, _: Beat) -> None:
    """Kopf's part: logins and watch streams. It ends when the process is asked to stop.

    It does not beat: Kopf opens each stream anew after `client_timeout`, and the resync lists what a stream
    that says nothing has missed.
    """
    registry = kopf.OperatorRegistry()
    Watch(operator, resync).register(registry)
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = NoProgress()
    settings.scanning.disabled = True
    settings.networking.error_backoffs = [0.2, 0.5, 1, 2, 2, 2, 2, 2]
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.queueing.idle_timeout = 0.5
    await run_kopf(process, registry, settings)


def main() -> int:
    """Run the operator; returns the exit code."""
    return run_process("operator", OperatorSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
