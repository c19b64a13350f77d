"""People and tokens as this API shows them."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from orderplane.adapters.postgres.people import Person
from orderplane.gateway.identity.grants import Tokens


class TokenView(TypedDict):
    """RFC 6749, 5.1."""

    access_token: Annotated[str, Field(description="A JWT (RFC 9068); send it as `Authorization: Bearer`.")]
    token_type: Annotated[str, Field(examples=["Bearer"])]
    expires_in: Annotated[int, Field(description="Seconds.", examples=[900])]
    scope: Annotated[str, Field(examples=["orders:read orders:write products:read profile"])]
    refresh_token: NotRequired[Annotated[str, Field(description="Good once; services get none.")]]


class PreferencesView(TypedDict):
    """Which channels a user is told through."""

    email: bool
    sms: bool


class UserView(TypedDict):
    """One user of one merchant."""

    id: Annotated[str, Field(examples=["u-3k9x2m7qpl5v8r4t"])]
    email: str
    name: str
    phone: str | None
    role: Annotated[str, Field(description="customer, merchant or admin.", examples=["customer"])]
    merchant: str
    preferences: PreferencesView
    createdAt: Annotated[str, Field(description="RFC 3339, UTC.")]


class UserListView(TypedDict):
    """A page of users, by id. `next` is the cursor of the following page, null on the last."""

    items: list[UserView]
    next: str | None


def token_view(tokens: Tokens) -> TokenView:
    """The answer to a grant."""
    view: TokenView = {
        "access_token": tokens.access.token,
        "token_type": "Bearer",
        "expires_in": tokens.access.expires_in,
        "scope": " ".join(sorted(tokens.access.scopes)),
    }
    if tokens.refresh is not None:
        view["refresh_token"] = tokens.refresh
    return view


def user_view(merchant: str, person: Person) -> UserView:
    """A user, as they and their admins see them."""
    return {
        "id": person.id,
        "email": person.email,
        "name": person.name,
        "phone": person.phone,
        "role": person.role,
        "merchant": merchant,
        "preferences": {"email": person.preferences["email"], "sms": person.preferences["sms"]},
        "createdAt": person.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
