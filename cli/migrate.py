"""`orderplane migrate`: bring the database up to date."""

from orderplane.adapters.postgres.migrate import migrate as migrate_database
from orderplane.cli.console import console, need, run


def migrate() -> None:
    """Bring the database of `ORDERPLANE_POSTGRES_DSN` up to the newest schema.

    Example:

        eval "$(orderplane dev env)" && orderplane migrate
    """
    applied = run(migrate_database(need("ORDERPLANE_POSTGRES_DSN")))
    console.print(f"{applied} migrations applied." if applied else "Up to date.")
