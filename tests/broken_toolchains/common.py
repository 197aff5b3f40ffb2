"""Interpreters that do as they like, and errors of one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginery.errors import ToolchainError


def interpreter(folder: Path, *lines: str) -> Path:
    script = folder / "python"
    script.write_text("\n".join(("#!/bin/sh", *lines, "")))
    script.chmod(0o755)
    return script


def one_line(error: pytest.ExceptionInfo[ToolchainError], kind: type[ToolchainError]) -> str:
    assert type(error.value) is kind
    assert error.value.cure
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)
    return str(error.value)
