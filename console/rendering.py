"""Pages by Jinja2. Everything is escaped: no text of the API is ever marked as safe."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orderplane.crds.money import format_minor
from orderplane.crds.reasons import Reason

_MEANINGS: Mapping[str, str] = {reason.value: reason.meaning for reason in Reason}
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class StaticFiles:
    """The files that pages load, read once. Each has its hash in its address: browsers keep it for ever."""

    def __init__(self) -> None:
        folder = resources.files("orderplane.console") / "static"
        self._files = {
            file.name: file.read_bytes()
            for file in folder.iterdir()
            if file.name.endswith(tuple(_MEDIA_TYPES))
        }
        if not self._files:
            raise FileNotFoundError(f"this installation has no files in {folder}; install it again")
        self._hashes = {
            name: hashlib.sha256(content).hexdigest()[:16] for name, content in self._files.items()
        }

    def address(self, name: str) -> str:
        """Where a page finds a file."""
        return f"/console/static/{self._hashes[name]}/{name}"

    def find(self, digest: str, name: str) -> tuple[bytes, str] | None:
        """The content and media type of a file; None if this version has no such file."""
        if self._hashes.get(name) != digest:
            return None
        return self._files[name], f"{_MEDIA_TYPES['.' + name.rpartition('.')[2]]}; charset=utf-8"


class Pages:
    """Makes pages of templates."""

    def __init__(self, static: StaticFiles) -> None:
        self._environment = Environment(
            loader=PackageLoader("orderplane.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {
            "money": money, "time": time_element, "age": age, "meaning": meaning, "path": _path,
            "query": query, "shown": shown, "number": number,
        }  # fmt: skip
        self._environment.globals |= {"static": static.address}

    def render(self, template: str, **values: Any) -> str:
        """The text of a page, or of a part of one."""
        return self._environment.get_template(template).render(**values)


def money(amount: int, currency: str) -> str:
    """An amount in minor units; one of a currency that is not known stays as it is."""
    try:
        return format_minor(amount, currency)
    except KeyError:
        return f"{amount} {currency}"


def time_element(at: str | None) -> str:
    """A time of the API. A script of ours shows it in the zone of the viewer; without it, it is UTC."""
    if not at:
        return "–"
    moment = datetime.fromisoformat(at).astimezone(UTC)
    machine = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{} UTC</time>').format(machine, f"{moment:%Y-%m-%d %H:%M:%S}")


def age(seconds: float | None) -> str:
    """A time span for people: 0.8 s, 42 s, 12 min, 3.5 h, 2 d."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for most, size, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def number(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}"


def meaning(reason: str | None) -> str:
    """The sentence that explains a reason; empty for one that this version does not know."""
    return _MEANINGS.get(reason, "") if reason else ""


def query(values: Mapping[str, Any]) -> str:
    """The query of an address; what is empty is left out."""
    return urlencode({name: value for name, value in values.items() if value not in ("", None)})


def shown(document: Mapping[str, Any] | None) -> str:
    """A small document for people."""
    if document is None:
        return ""
    return "; ".join(f"{name}: {_plain(value)}" for name, value in document.items())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _path(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")
