"""`enginery server`: Prefect's server and its UI, on any port, telling nobody about itself."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import Any

from enginery.errors import ServerError
from flows.commands import add_command


def add(commands: Any) -> None:
    """Add the command to the parser of `enginery`."""
    parser = add_command(commands, "server", _run, "start Prefect's server, which shows runs in a browser")
    parser.add_argument("--host", default="127.0.0.1", help="where it listens (default: this machine only)")
    parser.add_argument("--port", type=_port, default=4200, help="default: 4200")


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; give a number from 1 to 65535")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    """Become Prefect's own command, so that a signal or a service manager meets the server itself."""
    _check_free(args.host, args.port)
    named = f"[{args.host}]" if ":" in args.host else args.host
    shown = {"0.0.0.0": socket.gethostname(), "[::]": socket.gethostname()}.get(named, named)
    print(f"Prefect's UI: http://{shown}:{args.port} (stop it with Ctrl-C)")
    print(f"For other commands: export PREFECT_API_URL=http://{shown}:{args.port}/api", flush=True)
    os.environ["PREFECT_SERVER_UI_API_URL"] = "/api"  # of the page's own address, whatever port or name that has
    os.environ.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", args.host, "--port", str(args.port)]
    os.execv(command[0], command)


def _check_free(host: str, port: int) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        cure = "Give another --port, or end what uses it"
        raise ServerError(f"{host} port {port} cannot be used: {error.strerror}", cure) from None
