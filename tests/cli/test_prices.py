"""What `orderplane prices` prints for people, and what it refuses before it asks anybody."""

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orderplane.cli import gateway
from orderplane.cli.console import console
from orderplane.cli.exit_codes import WRONG_USAGE
from orderplane.cli.main import app
from orderplane.ledgers.price_rules import PriceRule

RUNNER = CliRunner()
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "price-rule.json"
RULE = PriceRule.model_validate_json(EXAMPLE.read_text()).model_dump(mode="json", by_alias=True)
"""As the gateway shows it."""
CURRENT = {"currency": "EUR", "version": 3, "changedAt": "2026-03-01T12:15:00.000Z", "rule": RULE}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the gateway answers, in this order."""
    following: list[Any] = []

    def call(work: Coroutine[Any, Any, Any]) -> Any:
        work.close()
        return following.pop(0)

    monkeypatch.setattr(gateway, "call", call)
    return following


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console takes its width when it is made; a narrow one breaks the lines of a table."""
    monkeypatch.setattr(console, "width", 200)


def typed(*words: str, given: str = "") -> str:
    result = RUNNER.invoke(app, ["prices", *words], input=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_rule_is_shown_in_words(answers: list[Any]) -> None:
    answers += [CURRENT, {"items": [CURRENT]}]
    lines = (
        "DE: 4.90 EUR up to 2000 g, 9.90 EUR up to 30000 g; free from 50.00 EUR",
        "AT NL: 8.90 EUR up to 5000 g",
        "all other countries: 19.90 EUR up to 5000 g",
        "DE: 19 %, in the prices",
        "all other countries: 0 %, in the prices",
    )
    for text in (typed("show", "EUR"), typed("list")):
        assert [line for line in lines if line not in text] == []


def test_the_history_says_who_did_what(answers: list[Any]) -> None:
    past = [
        {"version": 2, "changedAt": "2026-03-02T00:00:00.000Z", "actor": "user:u-1", "rule": None},
        {"version": 1, "changedAt": "2026-03-01T00:00:00.000Z", "actor": None, "rule": RULE},
    ]
    answers.append({"items": past, "next": "more"})
    result = RUNNER.invoke(app, ["prices", "history", "EUR"])
    assert "user:u-1" in result.stdout
    assert "deleted" in result.stdout
    assert "AT NL: 8.90 EUR" in result.stdout
    assert "--cursor more" in result.stderr


def test_what_is_set_and_deleted_is_said(answers: list[Any]) -> None:
    answers += [CURRENT, None]
    assert typed("set", "EUR", "-", given=json.dumps(RULE)) == (
        "Version 3 of the price rule for EUR is in force.\n"
    )
    assert "orders in it are refused" in typed("delete", "EUR")


def test_a_quote_has_each_sum(answers: list[Any]) -> None:
    amounts = {"items": 1300, "shipping": 490, "tax": 0, "includedTax": 286, "discount": 0, "total": 1790}
    rule = {"version": 3, "taxBasisPoints": 1900}
    answers.append({"currency": "EUR", "lines": [], "amounts": amounts, "priceRule": rule})
    text = typed("quote", "TEA=2", "--country", "DE")
    assert [line.split() for line in text.splitlines()[:5]] == [
        ["goods", "13.00", "EUR"], ["shipping", "4.90", "EUR"], ["tax", "0.00", "EUR"],
        ["total", "17.90", "EUR"], ["tax", "in", "it", "2.86", "EUR"],
    ]  # fmt: skip
    assert text.endswith("By version 3 of the price rule for EUR.\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["quote", "TEA", "--country", "DE"], "write it as TEA-EARL-GREY-100=2"),
        (["quote", "=2", "--country", "DE"], "write it as TEA-EARL-GREY-100=2"),
        (["quote", "TEA=two", "--country", "DE"], "write it as TEA-EARL-GREY-100=2"),
        (["quote", "TEA=2"], "--country"),
        (["set", "EUR", "-"], "is no price rule: it has to be a JSON object."),
    ],
)
def test_what_is_typed_wrong_is_not_sent(words: list[str], says: str) -> None:
    result = RUNNER.invoke(app, ["prices", *words], input="[]")
    assert result.exit_code == WRONG_USAGE
    assert says in result.output
