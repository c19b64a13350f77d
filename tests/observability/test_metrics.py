"""The page of metrics, and the names on it."""

from pathlib import Path

import pytest

from orderplane.dev.metrics_page import Metric, metrics, page_of

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
CHOSEN_BY_CUSTOMERS = {"order", "name", "merchant", "namespace", "sku", "customer", "user", "path", "address"}


@pytest.fixture(scope="module")
def found() -> list[Metric]:
    return metrics()


def test_the_page_has_every_metric_that_a_process_exports(found: list[Metric]) -> None:
    assert PAGE.read_text() == page_of(found), "python -m orderplane.dev.metrics_page > docs/metrics.md"
    assert {process for each in found for process in each.processes} == {
        "gateway", "console", "operator", "webhook", "relay", "notifier", "deliverer",
    }  # fmt: skip


def test_names_follow_prometheus(found: list[Metric]) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    for each in found:
        assert each.name.endswith("_total") == (each.type == "counter"), each.name
        assert each.type != "histogram" or each.name.endswith("_seconds"), each.name
        parts = each.name.split("_")
        assert not {"milliseconds", "ms", "minutes", "hours", "kb", "mb", "percent"} & set(parts), each.name
        assert not any(unit in parts[:-1] for unit in ("total", "info")), each.name


def test_the_number_of_series_does_not_follow_the_number_of_orders(found: list[Metric]) -> None:
    for each in found:
        assert not set(each.labels) & CHOSEN_BY_CUSTOMERS, each.name


def test_every_meaning_is_a_sentence_of_its_own(found: list[Metric]) -> None:
    for each in found:
        assert each.meaning.endswith("."), each.name
        assert "of them" not in each.meaning, each.name
