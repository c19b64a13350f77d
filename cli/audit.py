"""`orderplane audit`: check that no order, payment, label or event is lost or duplicated."""

import os
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from orderplane.audit.verdict import Verdict, audit
from orderplane.cli.backends import open_backends
from orderplane.cli.console import AsJson, console, need, run
from orderplane.cli.documents import Audit, AuditNotice, AuditViolation, print_json
from orderplane.ledgers.postgres.audit_runs import record_audit_run

_VARIABLES = (
    "ORDERPLANE_POSTGRES_DSN", "ORDERPLANE_PAYMENTS_URL", "ORDERPLANE_PAYMENTS_KEY",
    "ORDERPLANE_CARRIER_URL", "ORDERPLANE_CARRIER_KEY",
)  # fmt: skip


def audit_command(
    as_json: AsJson = False,
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
        print_json(as_document(verdict))
    else:
        show(verdict)
    raise typer.Exit(0 if verdict.is_clean else 1)


def as_document(verdict: Verdict) -> Audit:
    """The verdict as JSON."""
    return Audit(
        clean=verdict.is_clean,
        violations=tuple(
            AuditViolation(invariant=v.invariant, subject=v.subject, detail=v.detail)
            for v in verdict.violations
        ),
        notices=tuple(AuditNotice(subject=n.subject, detail=n.detail) for n in verdict.notices),
        open=tuple(verdict.open),
        counts=dict(verdict.counts),
    )


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
