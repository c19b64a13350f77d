"""Runs before and after a change: ratios, and the command that prints them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orderplane.cli.main import app
from orderplane.dev.bench.compare import ALL, CORES, ORDER, P95, REQUEST, Row, compare, cpu_ratio, warnings
from orderplane.dev.bench.record import LoadRecord, UnreadableRecord, read_record

from .records import record, usage


def row(rows: list[Row], section: str, name: str) -> Row:
    (found,) = [each for each in rows if (each.section, each.name) == (section, name)]
    return found


def test_ratios_of_cpu_waits_and_costs() -> None:
    before = record(usage(gateway=20.0, etcd=10.0, k6=30.0), p95=100.0, request_ms=2.0)
    after = record(usage(gateway=10.0, etcd=14.0, k6=60.0), p95=50.0, request_ms=1.0)
    rows = compare([(before, after)])
    assert row(rows, CORES, ALL).ratio == pytest.approx(0.8)
    assert row(rows, CORES, "gateway").ratio == pytest.approx(0.5)
    assert row(rows, CORES, "etcd").after == pytest.approx(0.14)
    assert row(rows, REQUEST, "product").ratio == pytest.approx(0.5)
    assert row(rows, ORDER, ALL).before == pytest.approx(25.0)
    assert row(rows, P95, "place").ratio == pytest.approx(0.5)
    assert row(rows, P95, "place").adjusted is None


def test_replicas_are_compared_as_one_process_and_what_only_one_side_has_is_left_out() -> None:
    one = record(usage(gateway=20.0))
    two = record(usage(gateway=12.0, gateway_2=10.0, redis=3.0), request_ms=1.0, gateways=2)
    rows = compare([(one, two)])
    assert row(rows, CORES, "gateway").ratio == pytest.approx(1.1)
    assert {each.name for each in rows if each.section == CORES} == {ALL, "gateway"}
    assert not [each for each in rows if each.section in (REQUEST, ORDER)]


def test_what_is_next_to_nothing_has_no_ratio() -> None:
    rows = compare([(record(usage(gateway=20.0, relay=0.001)), record(usage(gateway=20.0, relay=0.002)))])
    assert "relay" not in {each.name for each in rows}


@given(speed=st.floats(0.2, 5), change=st.floats(0.2, 5), spent=st.floats(5, 100))
def test_a_slower_machine_is_no_change(speed: float, change: float, spent: float) -> None:
    before = record(usage(gateway=spent))
    after = record(usage(gateway=spent * change * speed), speed=speed)
    assert cpu_ratio([(before, after)]) == pytest.approx(change)


def test_of_several_pairs_the_median_is_taken() -> None:
    pairs = [(record(usage(gateway=10.0)), record(usage(gateway=after))) for after in (5.0, 8.0, 20.0)]
    found = row(compare(pairs), CORES, "gateway")
    assert (found.lowest, found.ratio, found.highest) == pytest.approx((0.5, 0.8, 2.0))
    assert cpu_ratio(pairs) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("after", "part"),
    [
        (record(seconds=20), "the load was before"),
        (record(gateways=2), "gateways: before 1, after 2"),
        (record(work="other"), "the yardstick was"),
        (record(usage(gateway=1.0, others=0.2)), "others used 20 % of the machine in the run after"),
        (record(usage(gateway=1.0, stolen=0.1)), "10 % of the machine was stolen in the run after"),
        (record(missed=True), "thresholds missed in the run after"),
    ],
)
def test_what_makes_a_comparison_doubtful_is_said(after: LoadRecord, part: str) -> None:
    (warning,) = warnings([(record(), after)])
    assert part in warning
    assert warnings([(record(), record())]) == []


def written(file: Path, made: LoadRecord) -> str:
    file.write_text(made.model_dump_json(), encoding="utf-8")
    return str(file)


def test_the_command_prints_a_table_and_its_exit_code_says_whether_it_got_worse(tmp_path: Path) -> None:
    before = written(tmp_path / "before.json", record(usage(gateway=20.0)))
    after = written(tmp_path / "after.json", record(usage(gateway=22.0)))
    bench = ["bench", "compare", before, after]
    answer = CliRunner().invoke(app, bench)
    assert answer.exit_code == 0
    assert "1.10" in answer.stdout
    assert CliRunner().invoke(app, [*bench, "--at-most", "1.2"]).exit_code == 0
    worse = CliRunner().invoke(app, [*bench, "--at-most", "1.05"])
    assert worse.exit_code == 1
    assert "1.100 times the CPU" in worse.stderr
    figures = json.loads(CliRunner().invoke(app, [*bench, "--json", "-"]).stdout)
    assert {"section": CORES, "name": "gateway"}.items() <= figures["rows"][2].items()
    assert figures["notes"] == []


@pytest.mark.parametrize(
    ("content", "part"),
    [(None, "cannot be read"), ("{}", "conditions: Field required"), ("[", "the document")],
)
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: str | None, part: str) -> None:
    file = tmp_path / "before.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(UnreadableRecord, match=part):
        read_record(file)
    answer = CliRunner().invoke(app, ["bench", "compare", str(file), str(file)])
    assert answer.exit_code == 2
    assert str(file) in answer.stderr


def test_files_come_in_pairs(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["bench", "compare", str(tmp_path / "one.json")]).exit_code == 2
