"""What a worker is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsWrong(Exception):  # noqa: N818
    """A variable is missing or makes no sense; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """See `from_env`."""

    postgres_dsn: str
    kafka: str
    kafka_replication: int
    metrics_port: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment.

        `ORDERPLANE_POSTGRES_DSN` is required. `ORDERPLANE_KAFKA` are bootstrap servers; without them events
        only wait and are counted. `ORDERPLANE_KAFKA_REPLICATION` (1) is for topics that have to be made.
        `ORDERPLANE_METRICS_PORT` (9091) is served on loopback, 0 takes a free one.

        Raises:
            SettingsWrong: see the message.
        """
        if not (dsn := env.get("ORDERPLANE_POSTGRES_DSN", "")):
            raise SettingsWrong(
                "ORDERPLANE_POSTGRES_DSN is not set; give it the DSN of the ledgers' database"
            )
        return cls(
            postgres_dsn=dsn,
            kafka=env.get("ORDERPLANE_KAFKA", ""),
            kafka_replication=number(env, "ORDERPLANE_KAFKA_REPLICATION", 1),
            metrics_port=number(env, "ORDERPLANE_METRICS_PORT", 9091),
        )


def number(env: Mapping[str, str], name: str, otherwise: int) -> int:
    """A whole number; raises SettingsWrong where it is none."""
    value = env.get(name) or str(otherwise)
    if not value.isdecimal():
        raise SettingsWrong(f"{name} is {value!r}; give it a whole number")
    return int(value)
