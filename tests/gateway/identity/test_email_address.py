"""E-mail addresses have one form each, which a mail server takes."""

import time

import pytest

from orderplane.gateway.identity.email_address import (
    MAX_LENGTH,
    canonical_address,
    login_name,
    needs_smtputf8,
)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        ("ada@b\u00fccher.example", "ada@xn--bcher-kva.example"),
        ("ada@bu\u0308cher.example", "ada@xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "ada@xn--bcher-kva.example"),
        ("ada@\u4f8b\u3048.\u30c6\u30b9\u30c8", "ada@xn--r8jz45g.xn--zckzah"),
        # The ideographic full stop divides labels, too (UTS 46).
        ("ada@example\u3002org", "ada@example.org"),
        ("\u017dofie@example.org", "\u017eofie@example.org"),
        ("z\u030cofie@example.org", "\u017eofie@example.org"),
    ],
)
def test_whatever_is_the_same_mailbox_is_the_same_text(written: str, canonical: str) -> None:
    assert canonical_address(written) == canonical
    assert canonical_address(canonical) == canonical
    assert canonical.rpartition("@")[2].isascii()


@pytest.mark.parametrize(
    "text",
    [
        "", "ada", "@example.org", "ada@", "a@b@c.example", "ada@example", "ada @example.org",
        " @example.org", "ada@exa mple.org", "ada\n@example.org", "ada@example.org\r\nBcc: eve@example.org",
        "ada\0@example.org",
        "\u200b@example.org", "\u202eada@example.org", "ada\u200b@example.org", "ada@\u200b.example",
        "\u00a0@example.org", "ada@[127.0.0.1]", '"a b"@example.org', "Ada <ada@example.org>",
        "ada@-.example",
        "\ud800@example.org",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an e-mail address"):
        canonical_address(text)
    assert login_name(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "ada@" + "\u00fc" * 240 + ".example", "ada@" + "\u00fc." * 120 + "de", "\u0300" * 250 + "@a.b",
        "ada@" + "\u0661" * 245, "ada@" + "\u3002" * 250, "ada@" + "a." * 125, "@" * 254, "\ufdfa" * 253,
        "ada@" + "\ufdfa" * 250, "a" * 10_000_000,
    ],
    ids=lambda text: f"{len(text)}-{text[:5]!a}",
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    login_name(text)
    started = time.process_time()
    name = login_name(text)
    assert time.process_time() - started < 0.05
    assert len(name) <= MAX_LENGTH or name == text.lower()


def test_only_letters_before_the_at_need_smtputf8() -> None:
    assert needs_smtputf8(canonical_address("\u017eofie@example.org"))
    assert not needs_smtputf8(canonical_address("ada@b\u00fccher.example"))
