"""Forms: application/x-www-form-urlencoded in UTF-8, and nothing else."""

import httpx
import pytest

from orderplane.gateway.http.forms import FORM, MAX_FIELDS, MAX_FORM, read_form
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.identity.requests import LoginForm, LogoutForm

from .threaded_server import app_without_dependencies

TOO_MANY = b"&".join(b"a%d=1" % number for number in range(MAX_FIELDS + 1))
PART = b'--b\r\nContent-Disposition: form-data; name="grant_type"\r\n\r\npassword\r\n--b--\r\n'


def refusal_of(raw: bytes, content_type: str | None = FORM) -> Problem:
    with pytest.raises(Problem) as raised:
        read_form(content_type, raw, LoginForm)
    return raised.value


@pytest.mark.parametrize(
    "content_type", [FORM, f"{FORM};charset=UTF-8", f'{FORM}; charset="utf-8"', f"{FORM}; x=y", FORM.upper()]
)
def test_a_form_in_utf_8_is_read(content_type: str) -> None:
    form = read_form(content_type, "username=z%C3%B6+e&password=\u00e9&new=1".encode(), LoginForm)
    assert (form.username, form.password) == ("z\u00f6 e", "\u00e9")


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "application/json", "multipart/form-data; boundary=b", f"{FORM}; charset=punycode",
        "multipart/form-data; boundary=b; charset=punycode", f"{FORM}; charset=utf-7", "text/plain",
        f"{FORM}; charset=utf-8; charset=idna", f"{FORM} x", f"{FORM}, {FORM}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("raw", [b"grant_type=password", PART])
def test_nothing_else_is_read(content_type: str | None, raw: bytes) -> None:
    problem = refusal_of(raw, content_type)
    assert problem.type.code == "unsupported_media_type"
    assert problem.headers["Accept"] == FORM


def test_a_field_without_a_value_is_left_out() -> None:
    """RFC 6749, 3.1."""
    assert read_form(None, b"", LoginForm) == LoginForm()
    assert read_form(FORM, b"merchant=&scope&grant_type=password", LoginForm).merchant is None


@pytest.mark.parametrize(
    "raw",
    [b"username=a&username=b", b"username=%FF", b"username=\xff", TOO_MANY],
)
def test_what_is_malformed_is_refused(raw: bytes) -> None:
    problem = refusal_of(raw)
    assert problem.type.code == "invalid_request"
    assert problem.extra["error"] == "invalid_request"


def test_what_is_too_long_is_refused() -> None:
    assert refusal_of(b"a=" + b"x" * MAX_FORM).type.code == "body_too_large"
    problem = refusal_of(b"username=" + b"x" * 255)
    assert problem.type.code == "validation_failed"
    assert problem.errors[0]["parameter"] == "username"


def test_a_required_field() -> None:
    with pytest.raises(Problem) as raised:
        read_form(FORM, b"", LogoutForm)
    assert raised.value.errors[0]["parameter"] == "refresh_token"


@pytest.mark.parametrize("credentials", [b"\xe9", b"x", b"====", b"/w==", b""])
async def test_basic_credentials_that_cannot_be_read(credentials: bytes) -> None:
    app = app_without_dependencies()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post(
            "/api/auth/login",
            data={"grant_type": "client_credentials"},
            headers={b"Authorization": b"Basic " + credentials},
        )
    assert answer.json()["code"] in ("invalid_client", "invalid_request")
