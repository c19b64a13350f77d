"""Content-Type: parameters, quotes, and what is malformed."""

import pytest

from orderplane.gateway.http.media_types import parse_content_type, require_media_type
from orderplane.gateway.http.problems import Problem

JSON = "application/json"


@pytest.mark.parametrize(
    "text",
    [
        JSON, "Application/JSON", f"{JSON};charset=utf-8", f"{JSON}; charset=UTF-8",
        f'{JSON}; charset="utf-8"', f'{JSON} ; Charset="utf-\\8"', f"{JSON}; profile=x",
        f'{JSON}; profile="a;b=c, d"; charset=utf-8',
        f"{JSON};", f"{JSON}; ;charset=utf-8", f"{JSON}; q=0.9; v=1 ",
    ],
)  # fmt: skip
def test_json_with_any_parameters(text: str) -> None:
    require_media_type(text, (JSON,))


@pytest.mark.parametrize(
    "text",
    [
        None, "", "application", "application/", f"{JSON}x", f"{JSON}, {JSON}", f"{JSON}; charset=latin-1",
        f'{JSON}; charset=""', f"{JSON}; charset=utf-8; charset=latin-1", f"{JSON}; charset", f'{JSON}; a="',
        f"{JSON}; charset = utf-8", "application/vnd.api+json", "application/problem+json", "text/json",
    ],
)  # fmt: skip
def test_what_is_refused(text: str | None) -> None:
    with pytest.raises(Problem) as raised:
        require_media_type(text, (JSON,))
    assert raised.value.type.status == 415
    assert raised.value.headers == {"Accept": JSON}


def test_what_is_read() -> None:
    assert parse_content_type('a/b; c="d\\"e"; charset="UTF-8"') == ("a/b", "utf-8")
    assert parse_content_type("a/b") == ("a/b", None)
    assert parse_content_type("a/b; charset") == ("", None)
