"""The child program's entry: a request to its module, and every error to one event."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.child import Out
from tests.exact.child.common import base, main_


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, out: Out) -> Any:
    """Run the program on a request with this work; returns its exit code."""
    imported: list[str] = []

    def ask(work: Any, **fields: Any) -> Any:
        def load(name: str) -> Any:
            imported.append(name)
            return SimpleNamespace(main=work)

        monkeypatch.setattr(main_, "importlib", SimpleNamespace(import_module=load))
        monkeypatch.setattr(main_, "Out", lambda: out)
        monkeypatch.setattr(main_, "die_with_parent", lambda: imported.append("die with parent"))
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(fields)))
        return main_.main()

    ask.imported = imported  # type: ignore[attr-defined]
    return ask


def test_a_request_is_done_by_its_module(asked: Any, out: Out) -> None:
    seen: list[Any] = []
    assert asked(lambda request, stream: seen.append((request, stream)), do="build", plan="p") == 0
    assert seen == [({"do": "build", "plan": "p"}, out)]
    assert asked.imported == ["die with parent", "building"]
    assert out.sent == []


def test_a_plan_with_a_digest_is_read_first(asked: Any, out: Out, tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"data")
    digest, seen = hashlib.sha256(b"data").hexdigest(), list[Any]()
    given = {"do": "measure", "plan": str(tmp_path / "p"), "plan_sha256": digest}
    assert asked(lambda request, stream: seen.append(request), **given) == 0
    assert seen == [{**given, "data": b"data"}]
    assert asked(lambda request, stream: seen.append(request), **{**given, "plan_sha256": "0"}) == 1
    assert len(seen) == 1
    assert out.sent == [
        {"event": "error", "kind": "integrity", "message": "its digest is not the one recorded"}
    ]
    assert asked.imported == ["die with parent", "running", "die with parent"]


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (base.RefusedError("parse", "a  b\n c"), "parse", "a b c"),
        (ImportError("No module named 'pycuda'"), "pycuda", "No module named 'pycuda'"),
        (MemoryError(), "memory", "out of memory"),
        (OSError(28, "No space left on device", "/a/b"), "file", "No space left on device: /a/b"),
        (OSError("odd"), "file", "odd: the.plan"),
        (
            type("LogicError", (Exception,), {"__module__": "pycuda._driver"})("cuInit failed"),
            "gpu",
            "cuInit failed",
        ),
    ],
)
def test_what_goes_wrong_is_one_event(
    asked: Any, out: Out, error: Exception, kind: str, message: str
) -> None:
    def work(request: Any, stream: Any) -> None:
        raise error

    assert asked(work, do="build", plan="the.plan") == 1
    assert out.sent == [{"event": "error", "kind": kind, "message": message}]


def test_a_mistake_of_its_own_is_raised(asked: Any, out: Out) -> None:
    def work(request: Any, stream: Any) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asked(work, do="build")
    assert out.sent == []

    def no_file(request: Any, stream: Any) -> None:
        raise OSError("odd")

    assert asked(no_file, do="build") == 1
    assert out.sent == [{"event": "error", "kind": "file", "message": "odd:"}]


def test_it_dies_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    library = SimpleNamespace(prctl=lambda *given: calls.append(given))
    monkeypatch.setattr(
        main_, "ctypes", SimpleNamespace(CDLL=lambda name: calls.append(name) or library)
    )
    main_.die_with_parent()
    assert calls == [None, (1, signal.SIGKILL)]
    monkeypatch.setattr(main_, "sys", SimpleNamespace(platform="win32"))
    main_.die_with_parent()
    assert len(calls) == 2
