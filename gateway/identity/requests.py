"""What clients send about people."""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field

from orderplane.crds.meta import ApiModel
from orderplane.gateway.http.body import STRICT, OneLine
from orderplane.gateway.principal import Role


def _is_address(text: str) -> str:
    """Whether it reads like one is all that is asked; addresses of test domains are as good as others."""
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError:
        raise ValueError("This is not an e-mail address.") from None


Email = Annotated[
    str,
    Field(max_length=254, examples=["ada@example.org"], json_schema_extra={"format": "email"}),
    AfterValidator(_is_address),
]
# The minimum is NIST SP 800-63B's; the maximum keeps the hashing of one password cheap.
Password = Annotated[str, Field(min_length=8, max_length=128, examples=["correct horse battery staple"])]
Name = Annotated[OneLine, Field(max_length=100, examples=["Ada Example"])]
Phone = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", description="E.164.", examples=["+4930901820"])]
Merchant = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Whose shop it is: a namespace. Without it, this front door's own.",
        examples=["demo"],
    ),
]


class RegisterRequest(ApiModel):
    """Somebody wants an account. It is always a customer's."""

    model_config = STRICT

    email: Email
    password: Password
    name: Name = ""
    phone: Phone | None = None
    merchant: Merchant | None = None


class PreferencesRequest(ApiModel):
    """Which channels to be told through."""

    model_config = STRICT

    email: bool | None = None
    sms: Annotated[bool | None, Field(examples=[True])] = None


class ProfileRequest(ApiModel):
    """What to change; what is left out stays, and `phone: null` takes the number away."""

    model_config = STRICT

    name: Name | None = None
    phone: Phone | None = None
    preferences: PreferencesRequest | None = None


class PasswordRequest(ApiModel):
    """Another password; whoever is logged in with the old one has to log in again."""

    model_config = STRICT

    current_password: Annotated[str, Field(max_length=128, examples=["correct horse battery"])]
    new_password: Password


class UserRequest(ApiModel):
    """An account that an admin makes for somebody of the merchant."""

    model_config = STRICT

    email: Email
    password: Password
    # Not strict: JSON has no enums.
    role: Annotated[Role, Field(strict=False, examples=["merchant"])]
    name: Name = ""
