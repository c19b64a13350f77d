"""Request bodies for accounts."""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field

from orderplane.crds.meta import ApiModel
from orderplane.crds.text import Line
from orderplane.gateway.http.body import STRICT
from orderplane.gateway.principal import Role


def _email_address(text: str) -> str:
    """Check the syntax only: no DNS request is made, and test domains are accepted."""
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError:
        raise ValueError("This is not an e-mail address.") from None


Email = Annotated[
    str,
    Field(max_length=254, examples=["ada@example.org"], json_schema_extra={"format": "email"}),
    AfterValidator(_email_address),
]
# The minimum is NIST SP 800-63B's; the maximum keeps the hashing of one password cheap.
Password = Annotated[str, Field(min_length=8, max_length=128, examples=["correct horse battery staple"])]
Name = Annotated[Line, Field(max_length=100, examples=["Ada Example"])]
Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", description="E.164.", examples=["+4930901820"])]
Merchant = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="The shop's namespace; by default the one that this gateway is configured with.",
        examples=["demo"],
    ),
]


class RegisterRequest(ApiModel):
    """A new account, always of a customer."""

    model_config = STRICT

    email: Email
    password: Password
    name: Name = ""
    phone: Phone | None = None
    merchant: Merchant | None = None


class PreferencesRequest(ApiModel):
    """Channels through which to get notifications."""

    model_config = STRICT

    email: bool | None = None
    sms: Annotated[bool | None, Field(examples=[True])] = None


class ProfileRequest(ApiModel):
    """What to change. Members that are left out stay; `phone: null` removes the number."""

    model_config = STRICT

    name: Name | None = None
    phone: Phone | None = None
    preferences: PreferencesRequest | None = None


class PasswordRequest(ApiModel):
    """A new password. All logins end; log in again with the new one."""

    model_config = STRICT

    current_password: Annotated[str, Field(max_length=128, examples=["correct horse battery"])]
    new_password: Password


class UserRequest(ApiModel):
    """An account that an admin creates for the merchant."""

    model_config = STRICT

    email: Email
    password: Password
    # Not strict: JSON has no enums.
    role: Annotated[Role, Field(strict=False, examples=["merchant"])]
    name: Name = ""
