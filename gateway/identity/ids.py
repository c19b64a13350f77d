"""Ids of users and services: they say nothing, and fit where customers' ids go."""

import base64
import secrets


def new_user_id() -> str:
    """`u-` and 16 characters, 80 random bits."""
    return f"u-{_random()}"


def new_client_id() -> str:
    """`c-` and 16 characters."""
    return f"c-{_random()}"


def _random() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()
