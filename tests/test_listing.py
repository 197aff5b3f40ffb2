"""`enginery list` keeps what it shows, until anything that it comes from changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginery.cli.main import main
from enginery.project.paths import ENGINES
from enginery.report import listing
from tests.registered import register

PLAN = ENGINES / "yolo/ada/fp16/model.plan"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project with one engine, which nobody has touched for an hour."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    register("yolo/ada/fp16")
    monkeypatch.setattr(listing, "known_engines", lambda: {listing_name()})
    later = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(listing.time, "time_ns", lambda: later)


def listing_name() -> Any:
    from enginery.registry.store import entries

    return entries()[0].identity


def states() -> list[str]:
    return [engine["state"] for engine in listing.list_engines().summaries]


def cut() -> None:
    PLAN.write_bytes(b"plan")


def change_a_byte_of_the_manifest() -> None:
    path = PLAN.with_name("manifest.json")
    path.write_bytes(path.read_bytes().replace(b"yolo", b"yola"))


def replace_by_an_older_file() -> None:
    PLAN.with_name("other").write_bytes(b"plan")
    os.utime(PLAN.with_name("other"), (0, 0))
    PLAN.with_name("other").replace(PLAN)


def take_the_manifest_away() -> None:
    PLAN.with_name("manifest.json").unlink()


@pytest.mark.parametrize(
    "change",
    [cut, change_a_byte_of_the_manifest, replace_by_an_older_file, take_the_manifest_away],
)
def test_a_kept_listing_is_made_anew_when_a_file_changes(change: Callable[[], None]) -> None:
    assert states() == ["candidate"]
    assert listing.KEPT.is_file()
    change()
    assert states() == ["damaged"]


def test_nothing_is_read_while_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (main(["list"]), main(["list", "--json"])) == (0, 0)
    made = capsys.readouterr().out
    monkeypatch.setattr(listing, "_make", lambda: pytest.fail("it was made again"))
    assert (main(["list"]), main(["list", "--json"])) == (0, 0)
    assert capsys.readouterr().out == made
    register("yolo/ada/int8")
    with pytest.raises(pytest.fail.Exception):
        listing.list_engines()


def test_another_version_or_params_yaml_makes_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = listing._state()
    Path("params.yaml").write_text("models: {}\n")
    other, _ = listing._state()
    monkeypatch.setattr(listing.enginery, "__version__", "99")
    assert len({key, other, listing._state()[0]}) == 3


def test_what_changed_a_moment_ago_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing.time, "time_ns", lambda: PLAN.stat().st_mtime_ns)
    assert states() == ["candidate"]
    assert not listing.KEPT.exists()


def test_a_mistake_in_params_yaml_is_told_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "known_engines", lambda: None)
    assert (states(), listing.KEPT.exists()) == (["candidate"], False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"key": 1}', "\0"])
def test_a_damaged_kept_listing_is_nothing(content: str) -> None:
    listing.KEPT.parent.mkdir()
    listing.KEPT.write_text(content)
    assert states() == ["candidate"]
    assert json.loads(listing.KEPT.read_text())["listing"]["notes"] == []


def test_where_it_cannot_be_kept_it_is_made_each_time() -> None:
    Path(".dvc/tmp").write_text("no folder")
    assert (states(), states()) == (["candidate"], ["candidate"])
    Path(".dvc/tmp").unlink()
    Path(".dvc").rmdir()
    assert (states(), Path(".dvc").exists()) == (["candidate"], False)
