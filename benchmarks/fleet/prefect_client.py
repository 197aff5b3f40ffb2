"""Prefect's server as the demo asks it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass(frozen=True)
class Api:
    """The server at a URL."""

    url: str

    def post(self, path: str, **content: Any) -> Any:
        """Ask it."""
        answer = httpx.post(f"{self.url}{path}", json=content, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        """Read from it."""
        return httpx.get(f"{self.url}{path}", timeout=30).raise_for_status().json()

    def start(self, deployment: str, **parameters: Any) -> str:
        """Have a deployment (flow/name) run; the run's id."""
        known = self.get(f"/deployments/name/{deployment}")
        path = f"/deployments/{known['id']}/create_flow_run"
        return str(self.post(path, parameters=parameters, state={"type": "SCHEDULED"})["id"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        """All runs of a deployment, the first first."""
        content: dict[str, Any] = {"deployments": {"name": {"any_": [name]}}}
        found: list[dict[str, Any]] = self.post("/flow_runs/filter", **content)
        return sorted(found, key=lambda run: run["created"])

    def state(self, run: str) -> str:
        """The state of a run."""
        return str(self.get(f"/flow_runs/{run}")["state"]["type"])

    def ended(self, run: str, limit_s: float = 180) -> dict[str, Any]:
        """The state in which a run ended."""
        return self.until(lambda: self._ended(run), f"the end of run {run}", limit_s)  # type: ignore[no-any-return]

    def completed(self, name: str, count: int, limit_s: float = 240) -> list[dict[str, Any]]:
        """The runs of a deployment, as soon as so many have completed."""

        def enough() -> list[dict[str, Any]]:
            done = [run for run in self.runs(name) if run["state"]["type"] == "COMPLETED"]
            return done if len(done) >= count else []

        return self.until(enough, f"{count} completed runs of {name}", limit_s)  # type: ignore[no-any-return]

    def durations(self, runs: Mapping[str, str]) -> str:
        """How long each run waited for its worker, and how long it took, in words."""
        parts = []
        for name, run in runs.items():
            read = self.get(f"/flow_runs/{run}")
            created, start, end = (
                datetime.fromisoformat(read[key]) for key in ("created", "start_time", "end_time")
            )
            waited, took = (start - created).total_seconds(), (end - start).total_seconds()
            parts.append(f"{name}: {waited:.0f} s until it began, {took:.0f} s at work")
        return "; ".join(parts)

    def until(self, ask: Any, what: str, limit_s: float = 180) -> Any:
        """Ask again and again until there is an answer."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            try:
                if answer := ask():
                    return answer
            except httpx.HTTPError:
                pass  # it was killed
            time.sleep(0.5)
        raise TimeoutError(f"{what} did not come within {limit_s:.0f} s")

    def _ended(self, run: str) -> dict[str, Any] | None:
        state: dict[str, Any] = self.get(f"/flow_runs/{run}")["state"]
        return state if state["type"] in _ENDED else None
