"""The OpenAPI document of the routes."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Header
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from starlette.responses import Response

from orderplane.gateway.http.documentation import CLOSED
from orderplane.gateway.http.problems import PROBLEM_TYPES, ProblemView
from orderplane.gateway.http.responses import document_response, etag_of_body
from orderplane.gateway.identity.requests import (
    ClientRequest,
    ConfirmEmailRequest,
    ConfirmPhoneRequest,
    ConfirmRegistrationRequest,
    EmailRequest,
    LoginForm,
    LogoutForm,
    NewPasswordRequest,
    PasswordRequest,
    PasswordResetRequest,
    ProfileRequest,
    RegisterRequest,
    UserRequest,
)
from orderplane.gateway.inventory.requests import (
    AdjustmentRequest,
    RecountRequest,
    ReleaseRequest,
    ReserveRequest,
)
from orderplane.gateway.orders.refunds import NewRefundRequest
from orderplane.gateway.orders.repair_routes import SettlementRequest
from orderplane.gateway.orders.requests import OrderRequest, QuoteRequest
from orderplane.gateway.prices.requests import PriceRuleRequest
from orderplane.gateway.principal import Scope
from orderplane.gateway.products.requests import DetailsRequest, ProductRequest
from orderplane.gateway.webhook_endpoints.requests import (
    EndpointDetailsRequest,
    EndpointRequest,
    ReplayRequest,
    RotationRequest,
)

ABOUT: dict[str, Any] = {
    "title": "Orderplane",
    "version": "v1alpha1",
    "summary": "Sell products, keep stock, place orders, follow them, cancel them.",
    "description": (
        "Send an access token from `POST /api/auth/login` as `Authorization: Bearer`. A token is valid for "
        "one merchant and gives no access to any other."
        "\n\n"
        "Amounts are integers in minor units of their currency. Errors are `application/problem+json` "
        "(RFC 9457): decide by `code`, show `detail`; `errors` has the wrong places. They never repeat a "
        "value of the request. Every 429 and 503 response has a `Retry-After`."
        "\n\n"
        "A schema with an `enum` is a closed set. Reasons, types of conditions and events, and codes of "
        "problems grow: ignore those that you do not know."
        "\n\n"
        "Requests are limited by user and by address, for each class of routes: logins, new orders, other "
        "writes, reads. `RateLimit-Policy` says how many are allowed in how many seconds, `RateLimit` how "
        "many are left and in how many seconds there will be more (draft-ietf-httpapi-ratelimit-headers)."
    ),
}

_BODIES = (
    OrderRequest, QuoteRequest, NewRefundRequest, SettlementRequest,
    LoginForm, LogoutForm, RegisterRequest, ProfileRequest, PasswordRequest, UserRequest,
    ConfirmRegistrationRequest, PasswordResetRequest, NewPasswordRequest, EmailRequest, ConfirmEmailRequest,
    ConfirmPhoneRequest, ClientRequest,
    ProductRequest, DetailsRequest, PriceRuleRequest,
    ReserveRequest, ReleaseRequest, AdjustmentRequest, RecountRequest,
    EndpointRequest, EndpointDetailsRequest, RotationRequest, ReplayRequest,
)  # fmt: skip
"""Models of bodies that the routes read themselves, so that FastAPI does not see them."""

_HEADERS = {
    "Cache-Control": ("string", "`no-store`, or how long the answer may be kept."),
    "ETag": ("string", "The version of the content, for If-None-Match and If-Match."),
    "RateLimit": ("string", "How much of each quota is left, and in how many seconds there will be more."),
    "RateLimit-Policy": ("string", "The quotas of this class of routes, by user and by address."),
    "Retry-After": ("integer", "Seconds after which the request may be sent again."),
    "WWW-Authenticate": ("string", "Which token or scope is missing (RFC 6750)."),
}
"""Headers that the answers of all routes have in common: type and meaning."""

_TOKENS = {"tokenUrl": "/api/auth/login", "scopes": {scope.value: scope.meaning for scope in Scope}}
_OAUTH2 = {
    "type": "oauth2",
    "description": "Customers and staff log in with a password, services with client credentials.",
    "flows": {
        "password": {**_TOKENS, "refreshUrl": "/api/auth/login"},
        "clientCredentials": _TOKENS,
    },
}

_REF_PREFIX = "#/components/schemas/"
_REF = _REF_PREFIX + "{model}"

Json = dict[str, Any]


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, built once."""
    if not app.openapi_schema:
        schema = get_openapi(**ABOUT, openapi_version="3.1.0", routes=app.routes)
        schemas = schema["components"]["schemas"]
        for model in (
            *(model.model_json_schema(by_alias=True, ref_template=_REF) for model in _BODIES),
            TypeAdapter(ProblemView).json_schema(ref_template=_REF),
        ):
            schemas.update(model.pop("$defs", {}))
            schemas[model["title"]] = model
        _drop_foreign_errors(schema)
        # Examples instead of an enum: then a new code is a compatible change.
        schemas["ProblemView"]["properties"]["code"]["examples"] = list(PROBLEM_TYPES)
        _name_enums(schema, schemas)
        _declare_headers(schema)
        _declare_security(schema)
        for content in contents_of(schema):
            if "$ref" in content["schema"]:
                content["schema"].pop("type", None)  # FastAPI says that all but JSON is a string
            with suppress(NoExample):  # a test asks for them
                content.setdefault("example", example_of(content["schema"], schemas))
        schema["components"]["schemas"] = dict(sorted(schemas.items()))
        app.openapi_schema = schema
    return app.openapi_schema


def serve_document(app: FastAPI) -> None:
    """Add the route `/openapi.json`. Its bytes are made once: anybody may ask for them, without a login."""

    @cache
    def made() -> tuple[bytes, str]:
        body = orjson.dumps(document(app))
        return body, etag_of_body(body)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi_document(if_none_match: Annotated[str | None, Header()] = None) -> Response:
        return document_response(if_none_match, *made())


def contents_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The content of each request body and of each successful response."""
    for path in document["paths"].values():
        for operation in path.values():
            answers = (answer for status, answer in operation["responses"].items() if int(status) < 400)
            for part in (operation.get("requestBody", {}), *answers):
                yield from part.get("content", {}).values()


def _drop_foreign_errors(schema: dict[str, Any]) -> None:
    """Remove FastAPI's own error format, which this API never sends."""
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    for path in schema["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]


def _name_enums(node: Any, schemas: Json) -> None:
    """Make each set of `documentation.closed` one schema that its places refer to."""
    if isinstance(node, list):
        for part in node:
            _name_enums(part, schemas)
    elif isinstance(node, dict):
        if name := node.pop(CLOSED, None):
            schemas[name] = {"title": name, "type": "string", "enum": node.pop("enum")}
            for key in ("type", "title"):
                node.pop(key, None)
            node["$ref"] = _REF_PREFIX + name
        # The names of members have no schema of their own: that they are strings goes without saying, and to
        # say it would be a change.
        node.get("propertyNames", {}).pop(CLOSED, None)
        for part in [*node.values()]:
            _name_enums(part, schemas)


def _declare_headers(schema: Json) -> None:
    schema["components"]["headers"] = {
        name: {"description": text, "schema": {"type": kind}} for name, (kind, text) in _HEADERS.items()
    }
    for path in schema["paths"].values():
        for operation in path.values():
            answers: Json = operation["responses"]
            for status, answer in answers.items():
                headers = answer.setdefault("headers", {})
                for name in _headers_of(status, has_version="304" in answers):
                    headers.setdefault(name, {"$ref": f"#/components/headers/{name}"})


def _headers_of(status: str, *, has_version: bool) -> list[str]:
    """The headers that every route's answer with this status has."""
    names = ["RateLimit-Policy", "RateLimit"]
    if status in ("429", "503"):
        names.append("Retry-After")
    if status in ("401", "403"):
        names.append("WWW-Authenticate")
    if has_version and status in ("200", "304"):
        names.append("ETag")
    if int(status) < 400:
        names.append("Cache-Control")
    return names


def _declare_security(schema: Json) -> None:
    """Every token is a bearer token; those of this gateway are made by OAuth 2.0."""
    schema["components"]["securitySchemes"]["OAuth2"] = _OAUTH2
    for path in schema["paths"].values():
        for operation in path.values():
            for needed in operation.get("security", ()):
                scopes = needed.pop("HTTPBearer")
                needed["OAuth2"] = scopes
            if operation.get("security"):
                operation["security"].append({"HTTPBearer": []})


class NoExample(Exception):  # noqa: N818
    """A field has neither an example nor a type that gives one; the message is its place."""


def example_of(schema: Json, schemas: Mapping[str, Json], place: str = "#") -> Any:
    """A document that fits `schema`, made of the examples of its fields. Pure.

    An example of a whole object comes before those of its members. Optional members without an example are
    left out.

    Raises:
        NoExample: a required field has none.
    """
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].removeprefix(_REF_PREFIX)], schemas, place)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], schemas, place)
    match schema.get("type"):
        case "object":
            return _members(schema, schemas, place)
        case "array":
            return [example_of(schema["items"], schemas, f"{place}/0")]
        case "boolean":
            return False
    raise NoExample(place)


def _members(schema: Json, schemas: Mapping[str, Json], place: str) -> Json:
    required = schema.get("required", ())
    members = {}
    for name, member in schema.get("properties", {}).items():
        try:
            members[name] = example_of(member, schemas, f"{place}/{name}")
        except NoExample:
            if name in required:
                raise
    return members
