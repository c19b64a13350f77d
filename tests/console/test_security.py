"""What keeps other pages out, and what is read of forms and addresses."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from orderplane.console.forms import MAX_BYTES, BadForm, read_form
from orderplane.console.rendering import Pages, StaticFiles, age, money, time_element
from orderplane.console.security import CONTENT_SECURITY_POLICY, HEADERS, is_from_own_page, own_path


@pytest.mark.parametrize(
    ("headers", "is_own"),
    [
        ({"sec-fetch-site": "same-origin", "host": "shop.example"}, True),
        ({"sec-fetch-site": "none", "host": "shop.example"}, True),
        ({"sec-fetch-site": "same-site", "host": "shop.example"}, False),
        ({"sec-fetch-site": "cross-site", "host": "shop.example"}, False),
        # What a browser says of itself comes before what it sends along.
        ({"sec-fetch-site": "cross-site", "origin": "https://shop.example", "host": "shop.example"}, False),
        ({"origin": "https://shop.example", "host": "shop.example"}, True),
        ({"origin": "https://shop.example:8443", "host": "shop.example"}, False),
        ({"origin": "https://evil.example", "host": "shop.example"}, False),
        ({"origin": "null", "host": "shop.example"}, False),
        ({"host": "shop.example"}, True),
    ],
)
def test_only_own_pages_may_change_something(headers: dict[str, str], is_own: bool) -> None:
    assert is_from_own_page(headers) is is_own


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("/console/orders?phase=Failed", "/console/orders?phase=Failed"),
        (None, "/console/"),
        ("", "/console/"),
        ("https://evil.example/console/", "/console/"),
        ("//evil.example/console/", "/console/"),
        ("/console//evil.example", "/console/"),
        ("/console/\\evil.example", "/console/"),
        ("/console/sign-out", "/console/"),
        ("/console/\r\nSet-Cookie: a=b", "/console/"),
        ("javascript:alert(1)", "/console/"),
    ],
)
def test_after_the_sign_in_one_is_at_the_console(asked: str | None, path: str) -> None:
    assert own_path(asked) == path


def test_no_inline_script_no_inline_style_no_other_host_no_frame() -> None:
    policy = dict(part.split(" ", 1) for part in CONTENT_SECURITY_POLICY.split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert HEADERS["X-Frame-Options"] == "DENY"


def request_with(*chunks: bytes, media_type: str = "application/x-www-form-urlencoded") -> Request:
    async def receive() -> Any:
        return await anext(messages)

    async def sent() -> AsyncIterator[Any]:
        for number, chunk in enumerate(chunks, start=1):
            yield {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}

    messages = sent()
    headers = [(b"content-type", media_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive)


async def test_a_form_is_read_as_text() -> None:
    form = await read_form(request_with(b"a=+1&b=x%0D%0Ay", b"&order=1&order=2"))
    assert (form.text("a"), form.block("b"), form.all("order"), form.text("none")) == (
        "1",
        "x\ny",
        ["1", "2"],
        "",
    )
    assert form.number("a", "It") == 1
    with pytest.raises(BadForm, match="The count is a whole number"):
        form.number("b", "The count")


@pytest.mark.parametrize(
    "request_",
    [
        request_with(b"a" * MAX_BYTES, b"b"),
        request_with(b"\xff=1"),
        request_with(b"&".join(b"a=1" for _ in range(500))),
        request_with(b"{}", media_type="application/json"),
    ],
)
async def test_what_is_no_form_or_too_much_of_one_is_refused(request_: Request) -> None:
    with pytest.raises(BadForm):
        await read_form(request_)


def test_files_are_found_by_their_hash_only() -> None:
    static = StaticFiles()
    _, _, _, digest, name = static.address("console.css").split("/")
    found = static.find(digest, name)
    assert found is not None and found[1].startswith("text/css")
    for wrong in ((digest, "htmx.min.js"), ("0" * 16, name), (digest, "../settings.py"), ("", "")):
        assert static.find(*wrong) is None


def test_pages_escape_what_they_show() -> None:
    order = {
        "id": "o-1", "reference": "<b>1</b>", "customer": '"><script>', "phase": "Paid", "reason": None,
        "cancelRequested": False, "createdAt": "2026-01-01T00:00:00Z",
        "quote": {"currency": "EUR", "amounts": {"total": 154}},
    }  # fmt: skip
    text = Pages(StaticFiles()).render("part/order-row.html", order=order, stalled=lambda _: None)
    assert "<script>" not in text and "<b>" not in text
    assert "1.54 EUR" in text
    assert '<time datetime="2026-01-01T00:00:00.000Z">2026-01-01 00:00:00 UTC</time>' in text


def test_amounts_times_and_ages() -> None:
    assert (money(1050, "EUR"), money(1050, "JPY"), money(5, "XXX")) == ("10.50 EUR", "1050 JPY", "5 XXX")
    assert str(time_element(None)) == "–"
    assert [age(seconds) for seconds in (None, 0.04, 42, 119, 121, 7_201, 172_801)] == [
        "–", "0.0 s", "42 s", "119 s", "2 min", "2 h", "2 d",
    ]  # fmt: skip
