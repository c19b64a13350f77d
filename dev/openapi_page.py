"""docs/openapi.json. `python -m orderplane.dev.openapi_page > docs/openapi.json` writes it anew."""

import sys

import orjson

from orderplane.gateway.app import declared_api
from orderplane.gateway.openapi import document


def page() -> bytes:
    """The whole document."""
    return orjson.dumps(document(declared_api()), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    sys.stdout.buffer.write(page())
