"""`orderplane audit`: check that no order, payment, label or event is lost or duplicated."""

import json
import os
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from orderplane.audit.verdict import Verdict, audit
from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, need, run
from orderplane.ledgers.postgres.audit_runs import record_audit_run

_VARIABLES = (
    "ORDERPLANE_POSTGRES_DSN", "ORDERPLANE_PAYMENTS_URL", "ORDERPLANE_PAYMENTS_KEY",
    "ORDERPLANE_CARRIER_URL", "ORDERPLANE_CARRIER_KEY",
)  # fmt: skip


def audit_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Keep the number of violations, which the operator exports.")
    ] = False,
) -> None:
    """Compare orders, stock, payments, labels, events and messages; exit code 1 on a violation.

    Orders that are not finished are listed as open; they are no violation.

    Example:

        eval "$(orderplane dev env)" && orderplane audit
    """
    for variable in _VARIABLES:
        need(variable)
    verdict = run(_audit(is_recorded=record))
    if as_json:
        typer.echo(json.dumps(as_document(verdict), indent=2))
    else:
        show(verdict)
    raise typer.Exit(0 if verdict.is_clean else 1)


def as_document(verdict: Verdict) -> dict[str, object]:
    """The verdict as JSON."""
    return {
        "clean": verdict.is_clean,
        "violations": [
            {"invariant": v.invariant, "subject": v.subject, "detail": v.detail} for v in verdict.violations
        ],
        "notices": [{"subject": notice.subject, "detail": notice.detail} for notice in verdict.notices],
        "open": list(verdict.open),
        "counts": verdict.counts,
    }


def show(verdict: Verdict) -> None:
    """Print the verdict."""
    looked_at = ", ".join(f"{count} {what}" for what, count in verdict.counts.items())
    if verdict.violations:
        table = Table("invariant", "about", "what is wrong", title=f"{len(verdict.violations)} violations")
        for violation in verdict.violations:
            table.add_row(violation.invariant, escape(violation.subject), escape(violation.detail))
        console.print(table)
    else:
        console.print(f"[green]Audit clean[/]: {looked_at}.")
    for notice in verdict.notices:
        console.print(f"{notice.subject}: {notice.detail}", markup=False, soft_wrap=True)
    if verdict.open:
        console.print(f"{len(verdict.open)} orders still open: {', '.join(verdict.open[:10])}")


async def _audit(*, is_recorded: bool) -> Verdict:
    async with open_backends(dict(os.environ)) as backends:
        verdict = await audit(backends.snapshot)
        if is_recorded:
            await record_audit_run(backends.pool, len(verdict.violations))
        return verdict
