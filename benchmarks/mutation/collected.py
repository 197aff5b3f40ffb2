"""mutmut, with tests that are collected once: each mutant is a fork that runs them at once.

    python benchmarks/mutation/collected.py run ...

mutmut itself starts pytest anew for each mutant, which takes longer than the tests do.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from _pytest.config import _prepareconfig
from _pytest.main import Session
from mutmut import __main__ as program
from mutmut.runners import harness
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd
from mutmut.workers import isolation


class CollectedRunner(harness.PytestRunner):
    """Collects in the process that forks, and runs what it collected in each fork."""

    session: Session | None = None

    def warm_up(self) -> None:
        """Collect all tests and keep the session."""
        with change_cwd("mutants"):
            chosen = self._pytest_args_regular_run([])
            options = ["--rootdir=.", "--tb=native", "--assert=plain", "--capture=sys"]
            config = _prepareconfig([*options, *chosen, *self._pytest_add_cli_args])
            config._do_configure()
            self.session = Session.from_config(config)
            config.hook.pytest_sessionstart(session=self.session)
            config.hook.pytest_collection(session=self.session)

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        """Run those tests, the fastest first, up to the first that fails."""
        if self.session is None:
            return super().run_tests(mutant_name=mutant_name, tests=tests)
        seconds = state().duration_by_test.__getitem__
        items = {item.nodeid: item for item in self.session.items}
        self.session.items = [items[name] for name in sorted(tests, key=seconds)]
        folder = Path(os.environ["PYTEST_DEBUG_TEMPROOT"]) / str(os.getpid())
        self.session.config._tmp_path_factory._given_basetemp = folder  # type: ignore[attr-defined]
        try:
            with change_cwd("mutants"):
                self.session.config.hook.pytest_runtestloop(session=self.session)
        except (Session.Failed, pytest.exit.Exception):
            pass
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return 1 if self.session.testsfailed else 0


def matches(name: str, pattern: str) -> bool:
    """As fnmatch, which compiles every name of a sample anew for every mutant."""
    return fnmatch.fnmatchcase(name, pattern) if "*" in pattern else name == pattern


if __name__ == "__main__":
    isolation.PytestRunner = CollectedRunner  # type: ignore[misc]
    program.fnmatch = SimpleNamespace(fnmatch=matches)  # type: ignore[assignment]
    program.cli()
