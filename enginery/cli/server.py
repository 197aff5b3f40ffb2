"""`enginery server`: Prefect's server with its UI, on any port.

Neither tells anybody about itself.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from enginery.cli import Command, new_app
from enginery.errors import ServerError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

app = new_app()

_LEASES = "prefect.server.concurrency.lease_storage"
_SETTINGS = {
    # Whatever port or name the page was opened by; by default it asks port 4200 of 127.0.0.1.
    "PREFECT_SERVER_UI_API_URL": "/api",
    # By default leases are in memory: a server that starts again would never free what was held.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": f"{_LEASES}.filesystem",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
# Prefect's pages ask an analytics service for its configuration though the server's analytics are
# off.
_POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"


class _OnlyThisServer:
    """Tells browsers that no page of this server may load or send anything elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", _POLICY)]
            await send(message)

        await self._app(scope, receive, send_with_policy)


@app.command(cls=Command)
def server(
    host: Annotated[
        str, typer.Option(help="Where it listens; by default for this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 4200,
) -> int:
    """Start Prefect's server, which shows runs in a browser."""
    _check_free(host, port)
    os.environ.update(_SETTINGS)
    os.environ.pop("PREFECT_API_URL", None)  # it is for those who ask a server
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_LOGGING_LEVEL

    api = create_app(final=True)
    api.add_middleware(_OnlyThisServer)
    url = f"http://{_shown(host)}:{port}"
    print(f"Prefect's UI: {url} (Ctrl-C stops the server)")
    print(f"For other commands: export PREFECT_API_URL={url}/api", flush=True)
    uvicorn.run(api, host=host, port=port, log_level=PREFECT_SERVER_LOGGING_LEVEL.value().lower())
    return 0


def _shown(host: str) -> str:
    """What others call this machine."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _check_free(host: str, port: int) -> None:
    try:
        with socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ):
            pass
    except OSError as error:
        cure = "Give another --port, or end what uses it"
        reason = (error.strerror or str(error)).split(" (while")[0]  # it repeats the address
        raise ServerError(f"{host} port {port} cannot be used: {reason}", cure) from None
