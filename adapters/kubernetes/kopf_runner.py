"""Run Kopf inside a process of ours."""

import asyncio

import kopf

from orderplane.adapters.process import Process


async def run_kopf(
    process: Process, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings
) -> None:
    """Run Kopf's tasks for all namespaces until `process.stopping` is set, or one of them fails."""
    kopf.on.login(registry=registry, id="login")(kopf.login_via_client)
    # Kubernetes Events are written by our own code.
    settings.posting.enabled = False
    # Else Kopf kills the process some time after it was told to stop; the drain has its own limit.
    settings.process.ultimate_exiting_timeout = None
    # At its end Kopf cancels every task that it does not know from before.
    ours = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings,
        clusterwide=True,
        standalone=True,
        stop_flag=process.stopping,
    )
    process.handle_signals()
    await kopf.run_tasks(tasks, ignored=ours)
