"""What the port for Prometheus answers."""

from collections.abc import Callable, Iterable

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.dev.localplane.ports import free_port


@pytest.mark.parametrize(
    ("accept", "parse", "content_type"),
    [
        # What Prometheus sends; the second without exemplars.
        ("application/openmetrics-text;version=1.0.0,*/*;q=0.1", parse_openmetrics, "openmetrics-text"),
        ("text/plain;version=0.0.4", parse_text, "text/plain"),
        ("*/*", parse_text, "text/plain"),
    ],
)
async def test_metrics_come_in_the_format_that_is_asked_for(
    accept: str, parse: Callable[[str], Iterable[Metric]], content_type: str
) -> None:
    port = free_port()
    async with (
        serve_telemetry("127.0.0.1", port, why_not_ready=lambda: None, stuck=dict),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}) as answer,
    ):
        text = await answer.text()
    assert content_type in answer.headers["Content-Type"]
    names = {sample.name for family in parse(text) for sample in family.samples}
    assert "python_info" in names
