"""Entity tags (RFC 9110, 8.8.3 and 13.1.2)."""

import hashlib


def tag_of(version: str) -> str:
    """A weak tag from a version that changes with the content."""
    return f'W/"{version}"'


def tag_of_body(body: bytes) -> str:
    """A weak tag from the content itself, where nothing else tells its version."""
    return tag_of(hashlib.sha256(body).hexdigest()[:32])


def tags_in(header: str) -> list[str]:
    """The entity tags, or the asterisk, of an If-Match or If-None-Match."""
    return [part.strip() for part in header.split(",")]


def is_match(if_none_match: str | None, tag: str) -> bool:
    """Whether the client has this version already; compared weakly, as If-None-Match is."""
    if if_none_match is None:
        return False
    wanted = tag.removeprefix("W/")
    return any(part == "*" or part.removeprefix("W/") == wanted for part in tags_in(if_none_match))
