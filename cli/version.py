"""`orderplane version`."""

from typing import Annotated

import typer

from orderplane import __version__
from orderplane.cli import gateway
from orderplane.cli.console import AsJson
from orderplane.cli.documents import Version, print_json
from orderplane.client.transport import Request, connect


def version(
    asks_gateway: Annotated[
        bool, typer.Option("--gateway", help="Also ask the gateway for the version of its API.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the version.

    With `--gateway`, exit code 0 says that the gateway answers; no login is needed.

    Example:

        ORDERPLANE_GATEWAY=https://orders.example orderplane version --gateway
    """
    url = gateway.gateway_url() if asks_gateway else None
    api = gateway.call(_api_version(url)) if url else None
    if as_json:
        print_json(Version(version=__version__, gateway=url, api=api))
        return
    typer.echo(__version__)
    if url:
        typer.echo(f"{api} at {url}")


async def _api_version(url: str) -> str:
    async with connect(url) as transport:
        answer = await transport.send(Request("GET", "/openapi.json"))
    return str(answer.document["info"]["version"])
