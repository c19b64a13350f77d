"""Text that clients send, in bodies and paths."""

import re
from typing import Annotated

from pydantic import AfterValidator

from orderplane.crds.meta import SKU_PATTERN

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SKU = re.compile(SKU_PATTERN)
_BUT_LINE_BREAKS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def _is_one_line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("No control characters or line breaks here.")
    return text


def _is_text(text: str) -> str:
    if _BUT_LINE_BREAKS.search(text):
        raise ValueError("No control characters here but line breaks.")
    return text


def is_sku(text: str) -> bool:
    """Whether it can be a product's SKU; what is not one need not be looked for."""
    return _SKU.fullmatch(text) is not None


OneLine = Annotated[str, AfterValidator(_is_one_line)]
Lines = Annotated[str, AfterValidator(_is_text)]
