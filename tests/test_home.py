"""Users without a passwd entry or a home: what they are given, and that
everything works with it.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enginery.system.home import HOME, ensure_home
from tests.conftest import Checkout

STRANGER = [
    "unshare",
    "--user",
    "--map-user=12345",
]  # a user of no name who may read and write what the caller may
NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
WRITTEN = ("PREFECT_HOME", "MPLCONFIGDIR", "YOLO_CONFIG_DIR", "XDG_CACHE_HOME")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "checkout/.dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout")
    for name in (*NAMES, *WRITTEN):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "checkout"


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> Any:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_who_has_a_home_and_a_name_keeps_both(checkout: Path) -> None:
    before = dict(os.environ)
    assert ensure_home() == ""
    assert dict(os.environ) == before
    assert not HOME.exists()


def test_who_has_no_name_gets_one(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody(monkeypatch)
    assert ensure_home() == ""
    assert os.environ["USER"] == os.environ["LOGNAME"] == f"user{os.getuid()}"
    monkeypatch.setenv("USER", "me")
    ensure_home()
    assert os.environ["USER"] == "me"


@pytest.mark.parametrize(
    ("home", "words"),
    [
        (None, "this user has no home folder: .dvc/tmp/home is used"),
        ("", "this user has no home folder: .dvc/tmp/home is used"),
        ("relative", "this user has no home folder: .dvc/tmp/home is used"),
        (
            "/nonexistent",
            "this user has no home folder (/nonexistent is none): .dvc/tmp/home is used",
        ),
    ],
)
def test_who_has_no_home_gets_one_in_the_checkout(
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    home: str | None,
    words: str,
) -> None:
    nobody(monkeypatch)
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    assert ensure_home() == words
    assert os.environ["HOME"] == str(checkout / HOME)
    assert HOME.stat().st_mode & 0o777 == 0o700
    assert ensure_home() == ""  # said once: children find it


def test_without_home_the_passwd_entry_counts(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = pwd.struct_passwd(("me", "x", 1, 1, "", str(tmp_path), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: entry)
    monkeypatch.delenv("HOME")
    assert ensure_home() == ""
    assert "HOME" not in os.environ


def test_a_home_that_is_not_writable_stays_the_home(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and settings are read from it."""
    monkeypatch.setenv("HOME", "/proc/self")  # for root, too
    assert (
        ensure_home()
        == "the home folder /proc/self is not writable: .dvc/tmp/home takes what would be written there"
    )
    assert os.environ["HOME"] == "/proc/self"
    assert {name: os.environ[name] for name in WRITTEN} == {
        "PREFECT_HOME": str(checkout / HOME / "prefect"),
        "MPLCONFIGDIR": str(checkout / HOME / "matplotlib"),
        "YOLO_CONFIG_DIR": str(checkout / HOME / "ultralytics"),
        "XDG_CACHE_HOME": str(checkout / HOME / "cache"),
    }
    assert ensure_home() == ""


def test_outside_a_checkout_nothing_is_made(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / ".dvc").rmdir()
    monkeypatch.setenv("HOME", "/nonexistent")
    assert ensure_home() == ""
    assert list(checkout.iterdir()) == []


def can_be_a_stranger() -> bool:
    try:
        return subprocess.run([*STRANGER, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def tiny(params: dict[str, Any]) -> None:
    params["matrix"].update(targets=["rtx-ada"], precisions=["fp32"])
    params["int8"] = {}
    params["demo"].update(calibration_images=1)


@pytest.mark.skipif(not can_be_a_stranger(), reason="this machine lets nobody be somebody else")
def test_a_user_of_no_name_and_no_home_builds(fresh: Checkout) -> None:
    fresh.change(tiny)
    fresh.write_matrix()
    kept = {"PATH": fresh.environment()["PATH"], "PREFECT_API_URL": fresh.server, "COLUMNS": "200"}

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        line = [*STRANGER, sys.executable, "-m", *command]
        return subprocess.run(
            line,
            cwd=fresh.root,
            env={**kept, **variables},
            text=True,
            capture_output=True,
            timeout=500,
            check=False,
        )

    assert run("tasks.fingerprint").returncode == 0
    built = run("enginery", "build")
    assert built.returncode == 0, built.stdout + built.stderr
    assert built.stderr.count("this user has no home folder: .dvc/tmp/home is used") == 1
    for command in ("list", "status", "verify"):
        result = run("enginery", command, HOME="/nonexistent")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "(/nonexistent is none): .dvc/tmp/home is used" in result.stderr
        assert "Traceback" not in result.stderr
    assert "all 8 steps are up to date" in run("enginery", "status").stdout
