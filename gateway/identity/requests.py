"""Request bodies for accounts."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from orderplane.crds.meta import ApiModel
from orderplane.crds.text import Line
from orderplane.events.account_messages import MAX_TOKEN
from orderplane.gateway.http.body import STRICT
from orderplane.gateway.identity.email_address import MAX_LENGTH, canonical_address
from orderplane.gateway.principal import Role

Email = Annotated[
    str,
    Field(max_length=MAX_LENGTH, examples=["ada@example.org"], json_schema_extra={"format": "email"}),
    AfterValidator(canonical_address),
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


LinkToken = Annotated[
    str,
    Field(
        max_length=MAX_TOKEN,
        pattern=r"^[0-9a-f]{32}\.[A-Za-z0-9]{1,64}$",
        description="What follows the last = in the link.",
        examples=["3f2b8c1d9e4a4f0c8b7a6d5e4c3b2a19.Zk3uBpoUuOIq1x9GmW2vT7cRa5sY8dLe"],
    ),
]


class RegisterRequest(ApiModel):
    """A new account, always of a customer. The address, and then the number, have to be confirmed."""

    model_config = STRICT

    email: Email
    password: Password
    name: Name = ""
    phone: Phone | None = None
    merchant: Merchant | None = None


class ConfirmRegistrationRequest(ApiModel):
    """The token of the link in the mail, and the password of the registration.

    Somebody else may have registered with the address: then its owner does not know the password.
    """

    model_config = STRICT

    token: LinkToken
    password: Annotated[str, Field(max_length=128, examples=["correct horse battery staple"])]


class PasswordResetRequest(ApiModel):
    """The address of the account whose password was forgotten."""

    model_config = STRICT

    email: Email
    merchant: Merchant | None = None


class NewPasswordRequest(ApiModel):
    """The token of the link in the mail, and a new password. All logins end."""

    model_config = STRICT

    token: LinkToken
    new_password: Password


class EmailRequest(ApiModel):
    """Another address. It takes the place of the present one once it is confirmed."""

    model_config = STRICT

    email: Email
    current_password: Annotated[str, Field(max_length=128, examples=["correct horse battery"])]


class ConfirmEmailRequest(ApiModel):
    """The token of the link in the mail."""

    model_config = STRICT

    token: LinkToken


class ConfirmPhoneRequest(ApiModel):
    """The code in the SMS."""

    model_config = STRICT

    code: Annotated[str, Field(pattern=r"^[0-9]{6}$", examples=["042817"])]


class PreferencesRequest(ApiModel):
    """Channels through which to get notifications."""

    model_config = STRICT

    email: bool | None = None
    sms: Annotated[bool | None, Field(examples=[True])] = None


class ProfileRequest(ApiModel):
    """What to change. Members that are left out stay.

    `phone: null` removes the number; another number takes its place once it is confirmed.
    """

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


class ClientRequest(ApiModel):
    """A service that an admin creates for the merchant."""

    model_config = STRICT

    name: Annotated[
        Line, Field(min_length=1, max_length=100, description="For people.", examples=["warehouse"])
    ]


class LoginForm(BaseModel):
    """The form of the token endpoint (RFC 6749): the fields of one of its grants."""

    model_config = ConfigDict(strict=True)

    grant_type: Annotated[
        str | None,
        Field(
            max_length=64,
            description="password, refresh_token or client_credentials.",
            examples=["password"],
        ),
    ] = None
    username: Annotated[
        str | None,
        Field(max_length=254, description="password: the e-mail address.", examples=["ada@example.org"]),
    ] = None
    password: Annotated[str | None, Field(max_length=128, examples=["correct horse battery staple"])] = None
    refresh_token: Annotated[str | None, Field(max_length=256)] = None
    client_id: Annotated[str | None, Field(max_length=64, description="Or HTTP Basic.")] = None
    client_secret: Annotated[str | None, Field(max_length=256)] = None
    scope: Annotated[
        str | None, Field(max_length=1024, description="Scopes to request; by default all that the role has.")
    ] = None
    merchant: Annotated[
        str | None,
        Field(
            max_length=63,
            description="The shop's namespace; by default the one that this gateway is configured with.",
        ),
    ] = None


class LogoutForm(BaseModel):
    """The login to end."""

    model_config = ConfigDict(strict=True)

    refresh_token: Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$", examples=["demo.pk3uBpoUuOI"])]
