"""Settings of a process: declared once, read from the environment, checked all at once, documented."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "ORDERPLANE_"

SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
"""Variable with a folder of settings: a mounted Secret, whose files are named like variables. The environment
comes first."""

_DEFAULTS = frozenset({
    "admin", "change-me", "change_me", "changeme", "default", "example", "guest", "password", "postgres",
    "redacted", "replace-me", "replace_me", "replaceme", "root", "secret", "todo",
})  # fmt: skip
"""What is left where somebody has forgotten to set a secret."""

S = TypeVar("S", bound="ProcessSettings")


class SettingsError(Exception):
    """A process cannot start as it was set up: variables or files are wrong, or the CRDs are too old.

    Args:
        problems: A sentence for each: its name, what is wrong, what to do. Never the value of a secret.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def url_with_scheme(*schemes: str) -> AfterValidator:
    """Accept a secret only if it is a URL of one of these schemes; the message does not repeat it."""

    def check(url: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(url.get_secret_value())
            is_right = parts.scheme in schemes and (parts.port is None or parts.port > 0)
        except ValueError:
            is_right = False
        if not is_right:
            raise ValueError(f"give a URL that begins with {' or '.join(f'{name}://' for name in schemes)}")
        return url

    return AfterValidator(check)


HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]
Port = Annotated[int, Field(ge=1, le=65_535)]
AnyPort = Annotated[int, Field(ge=0, le=65_535)]
"""0 takes a free port."""

MetricsPort = Annotated[
    int, Field(ge=0, le=65_535, description="Port of /metrics, /healthz and /readyz; 0 takes a free one.")
]


class ProcessSettings(BaseSettings):
    """What every process reads. An empty variable counts as not set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    log_format: Literal["json", "text"] | None = Field(
        None, description="Format of log lines. Without it: text on a terminal, JSON elsewhere."
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(str.upper)
    ] = Field("INFO", description="The least severe level that is logged.")
    metrics_host: str = Field("127.0.0.1", description="Address on which metrics and probes are served.")
    metrics_port: MetricsPort = 9090
    otlp_endpoint: str | None = Field(
        None,
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OpenTelemetry collector (OTLP over HTTP) for traces; none are recorded without it.",
    )
    trace_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of new traces that is recorded; a parent's decision holds."
    )

    @field_validator("*")
    @classmethod
    def _no_default_secret(cls, value: Any) -> Any:
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            secret = urlsplit(text).password or "" if "://" in text else text.rpartition(":")[2]
            if secret.strip("<>").lower() in _DEFAULTS or not text:
                raise ValueError("this is a default that everybody knows; give a secret of your own")
        return value


class LedgerSettings(ProcessSettings):
    """What every process reads that works with the ledgers."""

    postgres_dsn: Annotated[SecretStr, url_with_scheme("postgresql", "postgres")] = Field(
        description="Database of the ledgers, as postgresql://USER:PASSWORD@HOST:5432/DATABASE."
    )


def read_settings(settings_class: type[S]) -> S:
    """Read the environment and the files of `SECRETS_DIR`.

    Raises:
        SettingsError: with every variable that is missing or wrong.
    """
    folder = os.environ.get(SECRETS_DIR) or None
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError(f"{SECRETS_DIR} is {folder!r}: there is no such folder; mount the Secret there.")
    try:
        return settings_class(_secrets_dir=folder)
    except ValidationError as error:
        problems = [_problem(settings_class, each) for each in error.errors(include_url=False)]
    raise SettingsError(*problems)


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as people read of it.

    Args:
        default: As it would be written into the environment: a field's `json_schema_extra["written"]` where
            that is not plain. None where the variable is required, empty where there is no default.
        allowed: Bounds or choices; empty where the description says it.
    """

    name: str
    description: str
    default: str | None
    allowed: str
    is_secret: bool


def variables_of(settings_class: type[ProcessSettings]) -> list[Variable]:
    """Every setting of a process, in the order of their declaration."""
    return [
        Variable(
            name=_variable(name, field),
            description=field.description or "",
            default=_default(field),
            allowed=_allowed(field),
            is_secret=_is_secret(field.annotation),
        )
        for name, field in settings_class.model_fields.items()
    ]


def variable_of(settings_class: type[ProcessSettings], name: str) -> str:
    """The variable that a field is read from."""
    return _variable(name, settings_class.model_fields[name])


def usage(module: str, settings_class: type[ProcessSettings]) -> str:
    """The text of `--help`."""
    lines = [f"usage: python -m {module} [--help]", "", inspect.getdoc(settings_class) or "", ""]
    lines.append("Settings are environment variables:")
    for variable in variables_of(settings_class):
        facts = [variable.allowed] if variable.allowed else []
        facts.append("required" if variable.default is None else f"default {variable.default or 'none'}")
        lines += ["", f"  {variable.name}  ({'; '.join(facts)})", f"      {variable.description}"]
    return "\n".join(lines)


def _problem(settings_class: type[ProcessSettings], error: ErrorDetails) -> str:
    name, field = _field_at(settings_class, str(error["loc"][0]))
    variable = _variable(name, field)
    if error["type"] == "missing":
        return f"{variable} is not set. {field.description}"
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else error["msg"]
    if _is_secret(field.annotation) or error["input"] is None or error["input"] == field.default:
        return f"{variable}: {reason}."
    return f"{variable} is {error['input']!r}: {reason}."


def _field_at(settings_class: type[ProcessSettings], place: str) -> tuple[str, FieldInfo]:
    """pydantic names a field by its alias where it has one."""
    fields: Mapping[str, FieldInfo] = settings_class.model_fields
    return next((name, field) for name, field in fields.items() if place in (name, field.validation_alias))


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else PREFIX + name.upper()


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    if isinstance(field.json_schema_extra, dict) and "written" in field.json_schema_extra:
        return str(field.json_schema_extra["written"])
    if field.default is PydanticUndefined or field.default in (None, ()):
        return ""
    return _number(field.default) if isinstance(field.default, float) else str(field.default)


def _allowed(field: FieldInfo) -> str:
    choices = [value for value in _literals(field.annotation) if value is not None]
    if choices:
        return ", ".join(choices)
    words = {"ge": "from", "gt": "more than", "le": "to", "lt": "less than"}
    return " ".join(
        f"{said} {_number(getattr(bound, sign))}"
        for sign, said in words.items()
        for bound in field.metadata
        if getattr(bound, sign, None) is not None
    )


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in _literals(part)]


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_is_secret(part) for part in get_args(annotation))
