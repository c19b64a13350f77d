"""What a URL of a webhook endpoint may be, as far as its text tells."""

import pytest

from orderplane.ledgers.webhook_endpoints import MAX_URL, check_url

GOOD = [
    "https://erp.example.com", "https://erp.example.com/", "https://erp.example.com:443/a/b?c=d&e=%20",
    "https://xn--bcher-kva.example/x", "https://8.8.8.8/x", "https://[2606:4700::1]/x", "HTTPS://ERP.example/x",
    "https://my_service.example/x",
]  # fmt: skip
ALLOWED_INSIDE = ["http://127.0.0.1:8080/x", "http://erp.internal:8080/", "https://erp.internal:8443/"]
NEVER = [
    "", "erp.example.com", "//erp.example.com", "ftp://erp.example.com", "file:///etc/passwd",
    "javascript:alert(1)", "https://", "https:///x", "https:erp.example.com", "https://:443/",
    # A user, a password, or what some programs take for the host.
    "https://user@erp.example.com/", "https://user:password@erp.example.com/", "https://erp.example.com@10.0.0.1/",
    "https://@erp.example.com/", "https://erp.example.com\\@10.0.0.1/", "https://erp.example.com\\.internal/",
    # Spellings of addresses that are not the usual one.
    "https://2130706433/", "https://017700000001/", "https://0x7f000001/", "https://0177.0.0.1/",
    "https://0x7f.0.0.1/", "https://127.1/", "https://1.2.3/", "https://1.2.3.4.5/", "https://1.2.3.256/",
    "https://1.2.3.4./", "https://[::1%25eth0]/", "https://[1.2.3.4]/", "https://[::1", "https://[v1.x]/",
    # Hosts.
    "https://localhost./", "https://erp.example.com./", "https://erp..example/", "https://-erp.example/",
    "https://erp.example-/", f"https://{'a' * 64}.example/", f"https://{'a.' * 130}example/",
    "https://erp%2eexample.com/", "https://\u0435rp.example/", "https://\u2460.example/",
    # Ports, fragments, and what is invisible.
    "https://erp.example:0x1bb/", "https://erp.example:99999/", "https://erp.example/#x", "https://erp.example/#",
    "https://erp.example/ x", "https://erp.example/\nx", "https://erp.example/\tx", "https://erp.example/\x00",
    " https://erp.example/", f"https://erp.example/{'x' * MAX_URL}", "http://erp.example/",
    "http://erp.example:443/",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_https_on_its_port_is_taken(url: str) -> None:
    assert check_url(url, is_private_allowed=False) == url
    assert check_url(url, is_private_allowed=True) == url


@pytest.mark.parametrize("url", ALLOWED_INSIDE)
def test_http_and_other_ports_only_where_other_networks_are_allowed(url: str) -> None:
    assert check_url(url, is_private_allowed=True) == url
    with pytest.raises(ValueError, match=r"443|https"):
        check_url(url, is_private_allowed=False)


@pytest.mark.parametrize("url", NEVER)
@pytest.mark.parametrize("is_private_allowed", [False, True])
def test_what_is_ambiguous_is_refused_and_not_repeated(url: str, is_private_allowed: bool) -> None:
    with pytest.raises(ValueError) as problem:
        check_url(url, is_private_allowed=is_private_allowed)
    assert len(url) < 10 or url not in str(problem.value)
