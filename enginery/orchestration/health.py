"""Whether Prefect's server answers, asked often: before each request of a run."""

from __future__ import annotations

import ssl
from functools import cache
from types import SimpleNamespace

import httpx
from prefect.client import orchestration
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings


class HealthCheck:
    """A connection to the server of a URL that stays open."""

    def __init__(self, url: str) -> None:
        with temporary_settings({PREFECT_API_URL: url}):
            self._client: httpx.Client = get_client(sync_client=True)._client

    def problem(self, limit_s: float) -> str:
        """Why no Prefect API answers within some seconds; empty if one does."""
        try:
            request = self._client.build_request("GET", "/health", timeout=limit_s)
            # Not the client's own `send`, which tries again for minutes.
            answer = httpx.Client.send(self._client, request)
            answer.raise_for_status()
            healthy = answer.json()
        except httpx.HTTPStatusError as error:
            return f"is no Prefect API: it answers {error.response.status_code} to /health"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"does not answer: {str(error).rstrip('.') or type(error).__name__}"
        except ValueError:
            healthy = None
        return "" if healthy is True else "is no Prefect API: something else answers"


def share_certificates() -> None:
    """Have all of Prefect's clients share one set of certificates.

    It makes a client for each task, and reads the certificates anew for each, for 25 ms.
    """
    shared = {name: getattr(ssl, name) for name in ("SSLContext", "CERT_NONE")}
    once = SimpleNamespace(**shared, create_default_context=cache(ssl.create_default_context))
    vars(orchestration)["ssl"] = once
