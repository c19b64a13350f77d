"""Fields that answers of several rooms have, with the examples that the document shows."""

from typing import Annotated

from pydantic import Field

Sku = Annotated[str, Field(examples=["TEA-EARL-GREY-100"])]
Count = Annotated[int, Field(examples=[2])]
Time = Annotated[str, Field(description="RFC 3339, UTC.", examples=["2026-03-01T12:15:00Z"])]
Next = Annotated[
    str | None, Field(description="The `cursor` of the following page; null on the last.", examples=[None])
]
