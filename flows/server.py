"""Prefect's server: the one that PREFECT_API_URL or Prefect's profile names; without one, Prefect starts its own for each run."""

from __future__ import annotations

import httpx
from prefect.settings import PREFECT_API_URL

from enginery.errors import EngineryError

_LIMIT_S = 10


def check_server() -> None:
    """Make sure that a server which is named answers.

    Raises:
        EngineryError: it does not.
    """
    url = PREFECT_API_URL.value()
    if not url:
        return
    try:
        httpx.get(f"{url}/health", timeout=_LIMIT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"Prefect's server at {url} does not answer: {str(error).rstrip('.')}"
        raise EngineryError(what, "Start it (`.venv/bin/prefect server start`), or correct PREFECT_API_URL") from None
