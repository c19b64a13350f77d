"""Products: list, make, edit, archive; and the price rules, to read."""

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.client.responses import Product
from orderplane.client.transport import ApiProblem
from orderplane.console.context import console_of, done, form_of, problem_lines, signed_in
from orderplane.console.forms import BadForm, Form
from orderplane.console.sessions import Session
from orderplane.crds.money import EXPONENTS, decimal_of, minor_of

PER_PAGE = 50
_OTHER_PRICE = re.compile(r"([A-Z]{3})\s+([0-9.]+)")


async def index(request: Request, session: Session) -> Response:
    """All products, or those that were searched for."""
    query = request.query_params
    text, archived = query.get("q", "").strip(), query.get("archived") == "yes"
    page = await session.client.products.list(
        q=text or None, with_archived=True if archived else None, limit=PER_PAGE, cursor=query.get("cursor")
    )
    return console_of(request).page(
        request, session, "page/products.html", products=page["items"], following=page["next"], q=text,
        archived=archived,
    )  # fmt: skip


async def new(request: Request, session: Session) -> Response:
    """The form for a new one."""
    return _form(request, session, None, _values(None))


async def show(request: Request, session: Session) -> Response:
    """The form of one that is there."""
    product = await session.client.products.get(request.path_params["sku"])
    return _form(request, session, product, _values(product))


def _form(
    request: Request, session: Session, product: Product | None, values: dict[str, str],
    problem: list[str] | None = None,
) -> Response:  # fmt: skip
    return console_of(request).page(
        request, session, "page/product.html", status=422 if problem else 200, product=product,
        values=values, problem=problem or [], currencies=sorted(EXPONENTS),
    )  # fmt: skip


async def create(request: Request, session: Session, form: Form) -> Response:
    """Make it."""
    try:
        made = await session.client.products.create({"sku": form.text("sku"), **_details(form)})
    except (BadForm, ApiProblem) as problem:
        return _again(request, session, None, form, problem)
    return done(
        session, f"{made['name']} is made. Count its stock to sell it.", f"/console/stock/{made['sku']}"
    )


async def change(request: Request, session: Session, form: Form) -> Response:
    """Change it; or archive it, or sell it again."""
    products, sku = session.client.products, request.path_params["sku"]
    match form.text("what"):
        case "archive":
            await products.archive(sku)
            return done(session, "It is not sold any more. Orders that name it go on.", request.url.path)
        case "restore":
            await products.change(sku, {"archived": False})
            return done(session, "It is sold again.", request.url.path)
        case _:
            try:
                await products.change(sku, _details(form))
            except (BadForm, ApiProblem) as problem:
                return _again(request, session, await products.get(sku), form, problem)
            return done(
                session, "It is changed. Orders keep the price that they were placed at.", request.url.path
            )


def _again(
    request: Request, session: Session, product: Product | None, form: Form, problem: BadForm | ApiProblem
) -> Response:
    if isinstance(problem, ApiProblem) and problem.status not in (409, 422):
        raise problem
    lines = problem_lines(problem) if isinstance(problem, ApiProblem) else [str(problem)]
    values = {name: form.text(name) for name in ("sku", "name", "amount", "currency", "weight")}
    values |= {name: form.block(name) for name in ("description", "others")}
    return _form(request, session, product, values, lines)


def _values(product: Product | None) -> dict[str, str]:
    """What the fields have at first."""
    if product is None:
        return dict.fromkeys(("sku", "name", "description", "amount", "weight", "others"), "") | {
            "currency": "EUR"
        }
    price = product["price"]
    return {
        "sku": product["sku"],
        "name": product["name"],
        "description": product["description"],
        "amount": decimal_of(price["amount"], price["currency"]),
        "currency": price["currency"],
        "weight": str(product["weightGrams"]),
        "others": "\n".join(
            f"{currency} {decimal_of(amount, currency)}"
            for currency, amount in sorted(product["otherPrices"].items())
        ),
    }


def _details(form: Form) -> dict[str, Any]:
    """The body of the request.

    Raises:
        BadForm: an amount cannot be read.
    """
    others: dict[str, int | None] = {}
    for line in form.block("others").splitlines():
        found = _OTHER_PRICE.fullmatch(line.strip())
        if found is None:
            raise BadForm("Give each further price in a line of its own, as USD 9.90.")
        others[found[1]] = _amount(found[2], found[1])
    for currency in form.all("dropped"):
        others.setdefault(currency, None)
    currency = form.text("currency")
    return {
        "name": form.text("name"),
        "description": form.block("description"),
        "price": {"amount": _amount(form.text("amount"), currency), "currency": currency},
        "otherPrices": others,
        "weightGrams": form.number("weight", "The weight"),
    }


def _amount(text: str, currency: str) -> int:
    try:
        return minor_of(text, currency)
    except KeyError:
        raise BadForm(f"{currency} is no currency that is sold in.") from None
    except ValueError as problem:
        raise BadForm(f"{problem}.") from None


async def price_rules(request: Request, session: Session) -> Response:
    """The price rules of all currencies."""
    rules = (await session.client.price_rules.list())["items"]
    texts = {
        rule["currency"]: orjson.dumps(rule["rule"], option=orjson.OPT_INDENT_2).decode() for rule in rules
    }
    return console_of(request).page(request, session, "page/prices.html", rules=rules, texts=texts)


ROUTES = [
    Route("/console/products", signed_in(index), methods=["GET"]),
    Route("/console/products", form_of(create), methods=["POST"]),
    Route("/console/products/-/new", signed_in(new), methods=["GET"]),
    Route("/console/products/{sku}", signed_in(show), methods=["GET"]),
    Route("/console/products/{sku}", form_of(change), methods=["POST"]),
    Route("/console/prices", signed_in(price_rules), methods=["GET"]),
]
