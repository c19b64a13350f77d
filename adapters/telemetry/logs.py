"""Structured logs: JSON for machines, colours for a terminal, the trace's ids on every line."""

import logging
import os
import sys
from typing import Literal

import orjson
import structlog
from opentelemetry import trace


def set_up_logs(service: str, log_format: Literal["json", "text"] | None = None, level: str = "INFO") -> None:
    """Send the standard library's and structlog's records through one pipe to standard error.

    Args:
        log_format: Without it, text on a terminal and JSON elsewhere.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    render: list[structlog.types.Processor] = (
        [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ,
                # The rich one prints local variables: addresses, keys, whole requests.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
        if (log_format or ("text" if sys.stderr.isatty() else "json")) == "text"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                lambda _logger, _name, event: {**event, "service": service},
                *render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Some of these also log addressees of messages.
    for chatty in (
        "kopf.objects", "aiohttp.access", "uvicorn.access", "aiokafka", "stripe", "urllib3", "twilio",
        "mail.log",
    ):  # fmt: skip
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _dumps(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()


def _add_trace(_logger: object, _name: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
    return event
