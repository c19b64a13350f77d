"""The dashboards: Grafana imports them as they are, and every panel asks for what is exported."""

import itertools
import re
from typing import Any

import pytest
import yaml

from orderplane.dev.monitoring.dashboards import FOLDER, NAMES, Question, dashboard, questions
from orderplane.dev.monitoring.pictures import FOLDER as PICTURES
from orderplane.dev.monitoring.pictures import PAGE, empty_panels, page
from orderplane.dev.prometheus_rule import rules_file

from .promql import labels_by_series, problems

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_imported_without_a_question(name: str) -> None:
    """https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/"""
    document = dashboard(name)
    assert document["uid"] == f"orderplane-{name}"
    assert not {"__inputs", "__requires", "id"} & set(document)
    [variable] = document["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert document["title"]
    assert document["description"].endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    panels = dashboard(name)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == DATASOURCE, panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == DATASOURCE, panel["title"]
            assert target["legendFormat"], panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name: str) -> None:
    for one, other in itertools.combinations(dashboard(name)["panels"], 2):
        a, b = one["gridPos"], other["gridPos"]
        is_beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        is_below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert is_beside or is_below, (one["title"], other["title"])
        assert max(a["x"] + a["w"], b["x"] + b["w"]) <= 24


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_asks_only_for_what_is_exported(name: str) -> None:
    known = labels_by_series()
    known |= dict.fromkeys(re.findall(r"record: (\S+)", rules_file().read_text()), frozenset())
    found = {
        f"{panel['title']}: {problem}"
        for panel in dashboard(name)["panels"]
        for question in questions(panel)
        for problem in problems(question.asked(rate_interval="1m", range_="1h"), known)
    }
    assert found == set()


def test_every_dashboard_is_in_the_component() -> None:
    component = yaml.safe_load((FOLDER.parent / "kustomization.yaml").read_text())
    [generated] = component["configMapGenerator"]
    assert generated["files"] == [f"dashboards/{name}.json" for name in NAMES]
    assert {file.stem for file in FOLDER.iterdir()} == set(NAMES)


def test_the_page_shows_every_dashboard() -> None:
    assert PAGE.read_text() == page(), "python -m orderplane.dev.monitoring.pictures"
    assert {picture.stem for picture in PICTURES.iterdir()} == set(NAMES)


def test_a_series_is_named_by_its_labels_and_by_nothing_where_it_has_none() -> None:
    question = Question("sum(x[$__rate_interval])", "{{phase}}: {{reason}}", is_instant=False)
    assert question.name_of({"phase": "Failed", "reason": "OutOfStock"}) == "Failed: OutOfStock"
    assert question.name_of({"phase": "Failed"}) == "Failed"
    assert question.asked(rate_interval="10s", range_="1h") == "sum(x[10s])"


def test_a_panel_without_a_value_is_told() -> None:
    full, empty = {"title": "a", "series": [{"values": [1.0]}]}, {"title": "b", "series": []}
    assert empty_panels([{"name": "saga", "panels": [full, empty]}]) == ["saga: b"]
