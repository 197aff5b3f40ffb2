"""Engines of a team: published, promoted, served and pruned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enginery.cli.main import main
from enginery.errors import RegistryError
from enginery.project.engine_name import EngineName
from enginery.registries import git_tags
from enginery.registries.interface import all_serving
from enginery.system.files import sha256
from tests.conftest import ROOT
from tests.team import MODEL, Machine, Team, clone, git
from tests.team_registry.common import (
    ADA,
    AMPERE,
    Captured,
    refused,
    registry,
    registry_plan,
    run,
    said,
)


def test_new_engines_are_published_and_the_work_tree_stays(
    team: Team, machine: Machine, capsys: Captured
) -> None:
    machine.register(ADA)
    machine.register(AMPERE, valid=True)
    (machine.root / "staged.txt").write_text("mine")
    git(machine.root, "add", "staged.txt")
    before = git(machine.root, "status", "--porcelain"), git(machine.root, "show-ref")

    dry = said(capsys, "publish", "--dry-run")
    assert dry.splitlines()[0] == f"would publish {ADA} (candidate)"
    assert dry.splitlines()[-1].startswith("2 new would be published to ")
    assert "engines" not in team.git("branch", "--list")

    lines = said(capsys, "publish").splitlines()
    assert lines[:2] == [f"published {ADA} v1 (candidate)", f"published {AMPERE} v1 (validated)"]
    assert (git(machine.root, "status", "--porcelain"), git(machine.root, "show-ref")) == before
    assert team.tree() == [
        ".dvc/config",
        f"{MODEL}/index.json",
        f"{ADA}/manifest.json",
        f"{ADA}/model.plan.dvc",
        f"{AMPERE}/manifest.json",
        f"{AMPERE}/model.plan.dvc",
        f"{AMPERE}/report.json",
    ]
    assert said(capsys, "publish").startswith("0 new published to ")
    machine.register(ADA, "trained again")
    assert said(capsys, "publish", ADA).startswith(f"published {ADA} v2 (candidate)\n1 new ")
    log = team.git("log", "--format=%an %s", "engines").splitlines()
    assert log == [f"Ada Publish {ADA} v2", "Ada Publish 2 engines"]


def test_machines_with_reports_of_their_own_do_not_publish_in_turns(
    team: Team, machine: Machine, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.register(ADA)
    assert said(capsys, "publish").startswith(f"published {ADA} v1 (candidate)\n")
    machine.register(ADA, valid=True)  # it ran on its GPU since
    assert said(capsys, "publish").startswith(f"published {ADA} v2 (validated)\n")
    other = clone(team, "other")
    monkeypatch.chdir(other.root)
    for valid in (False, True):
        other.register(ADA, valid=valid)
        if valid:  # there, it was timed anew
            path = next(other.root.glob(f"artifacts/reports/{ADA}.json"))
            path.write_text(path.read_text().replace('"mean": 1.0', '"mean": 1.01'))
        assert said(capsys, "publish").startswith("0 new published to "), valid


def test_dvc_and_gto_read_it(
    team: Team, machine: Machine, tmp_path: Path, capsys: Captured
) -> None:
    digest = machine.register(ADA)
    said(capsys, "publish")
    got = tmp_path / "got.plan"
    line = ["dvc", "get", "--rev", "engines", "--out", str(got)]
    run(*line, str(team.origin), f"{ADA}/model.plan")
    assert digest == sha256(got)
    git(machine.root, "fetch", "--quiet", "--tags")
    assert "v1.0.0" in run("gto", "show", "--repo", str(machine.root), ADA)


def test_a_stage_serves_what_was_promoted_and_says_who_when_and_why(
    machine: Machine, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in ("one", "two", "three"):
        machine.register(ADA, content, valid=content != "three")
        said(capsys, "publish")
    monkeypatch.setenv("COLUMNS", "200")
    candidate = refused(capsys, "promote", ADA)
    assert f"{ADA} v3 is a candidate: only its graph was checked" in candidate
    assert "It has v1, v2, v3" in refused(capsys, "promote", ADA, "--version", "4")
    assert "is no stage" in refused(capsys, "promote", ADA, "--stage", "validated")
    assert "no earlier version in production: none serves" in refused(capsys, "rollback", ADA)

    assert f"No version of {ADA} ever served" in said(capsys, "history", ADA)
    assert "no engine in " in refused(capsys, "history", "nothing")
    said(capsys, "promote", ADA, "--version", "1", "--reason", "first\nin the field")
    assert "serves in production already" in refused(capsys, "promote", ADA, "--version", "1")
    said(capsys, "promote", "fp16", "--version", "2")
    said(capsys, "promote", ADA, "--unvalidated", "--stage", "canary")
    back = said(capsys, "rollback", ADA, "--reason", "too slow")
    assert back == f"{ADA} v1 serves in production again, in the place of v2\n"

    events = json.loads(said(capsys, "history", ADA, "--json"))
    assert [(event["version"], event["stage"], event["why"]) for event in events] == [
        (1, "production", "first in the field"),
        (2, "production", f"{ADA} v2 to production"),
        (3, "canary", f"{ADA} v3 to canary"),
        (1, "production", "too slow"),
    ]
    assert {event["who"] for event in events} == {"Ada <ada@example.org>"}
    assert sorted(event["when"] for event in events) == [event["when"] for event in events]
    [listed] = json.loads(said(capsys, "published", "--json"))
    listed_name = EngineName(*ADA.split("/"))
    assert (listed["version"], listed["stages"]) == (3, {"canary": 3, "production": 1})
    overview = said(capsys, "published").splitlines()[-2].split()
    assert overview == [MODEL, "1", "0", "1", "1"]
    row = said(capsys, "published", MODEL).splitlines()[-2].split()
    assert row[:3] == ["rtx-ada/fp16", "v3", "candidate"]
    assert registry().stages() == all_serving(registry().stage_events([listed_name]))
    git(machine.root, "fetch", "--quiet", "--tags")
    shown = run("gto", "show", "--repo", str(machine.root), ADA)
    assert [line.split()[1:] for line in shown.splitlines() if "v1.0.0" in line]
    served = run("gto", "show", "--repo", str(machine.root), f"{ADA}#production")
    assert "v1.0.0" in served and "v2.0.0" not in served
    assert "too slow" in run("gto", "history", "--repo", str(machine.root), ADA, "--json")


def test_two_who_change_a_stage_at_once_are_told(
    machine: Machine, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in ("one", "two"):
        machine.register(ADA, content, valid=True)
        said(capsys, "publish")
    make_tag = git_tags.make_tag

    def overtaken(*given: Any) -> None:
        monkeypatch.setattr(git_tags, "make_tag", make_tag)
        assert main(["promote", ADA, "--version", "1"]) == 0
        make_tag(*given)

    monkeypatch.setattr(git_tags, "make_tag", overtaken)
    assert main(["promote", ADA]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: somebody else changed a stage of {ADA} at this moment. Look")
    assert list(registry().stages()["production"].values()) == [1]


KILLED = """
import os, sys
from enginery.cli.main import main
from enginery.registries.git_objects import Objects
push = Objects.push
def killed(objects, refspecs):
    if sys.argv[1] == "after":
        push(objects, refspecs)
    os.kill(os.getpid(), 9)
Objects.push = killed
main(["publish"])
"""


@pytest.mark.parametrize(("moment", "is_there"), [("before", False), ("after", True)])
def test_whoever_is_killed_left_nothing_half(
    team: Team, machine: Machine, moment: str, is_there: bool, capsys: Captured
) -> None:
    for engine in (ADA, AMPERE):
        machine.register(engine)
    line = [sys.executable, "-c", KILLED, moment]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(line, env=environment, capture_output=True).returncode == -9
    assert len([path for path in team.remote.rglob("*") if path.is_file()]) == 2
    assert len(registry().engines()) == 2 * is_there
    count = 2 * (not is_there)
    assert f"{count} new published" in said(capsys, "publish")
    assert team.git("tag", "--list").split() == [f"{ADA}@v1.0.0", f"{AMPERE}@v1.0.0"]


def test_a_branch_that_was_set_back_by_hand_takes_new_versions(
    team: Team, machine: Machine, capsys: Captured
) -> None:
    for content in ("one", "two", "three"):
        machine.register(ADA, content)
        said(capsys, "publish")
    team.git("update-ref", "refs/heads/engines", "engines~2")
    assert [engine.version for engine in registry().engines()] == [1]
    machine.register(AMPERE)
    lines = said(capsys, "publish").splitlines()  # the numbers 2 and 3 have their tags
    assert lines[:2] == [f"published {ADA} v4 (candidate)", f"published {AMPERE} v1 (candidate)"]
    assert {engine.title for engine in registry().engines()} == {
        f"{ADA} v1",
        f"{ADA} v4",
        f"{AMPERE} v1",
    }


def test_a_clock_that_is_wrong_changes_no_order(
    machine: Machine, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in ("one", "two"):
        machine.register(ADA, content, valid=True)
        said(capsys, "publish")
    for clock, version in ((2e9, "1"), (1e9, "2"), (1.5e9, "1")):
        monkeypatch.setattr(git_tags.time, "time", lambda clock=clock: clock)
        said(capsys, "promote", ADA, "--version", version)
    events = json.loads(said(capsys, "history", ADA, "--json"))
    assert [event["version"] for event in events] == [1, 2, 1]
    assert list(registry().stages()["production"].values()) == [1]


def test_without_a_remote_that_others_know_nothing_is_published(
    team: Team, machine: Machine, capsys: Captured
) -> None:
    machine.register(ADA)
    settings = machine.root / ".dvc/config"
    (machine.root / ".dvc/config.local").write_text(settings.read_text())
    settings.write_text("")
    assert "other machines do not know the DVC remote shared" in refused(capsys, "publish")
    (machine.root / ".dvc/config.local").unlink()
    assert "no DVC remote is configured" in refused(capsys, "publish")
    (team.folder / "remote").write_text("a file lies in its place")
    git(machine.root, "checkout", "--quiet", ".dvc/config")
    assert "the DVC remote shared (" in refused(capsys, "publish")
    assert "engines" not in team.git("branch", "--list")
    machine.register(AMPERE)
    (machine.root / f"artifacts/engines/{AMPERE}/model.plan").write_bytes(b"damaged")
    (team.folder / "remote").unlink()
    assert main(["publish"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith(f"not published: {AMPERE}, damaged: model.plan: 7 bytes")
    assert f"published {ADA} v1" in told.out


def test_prune_keeps_what_stages_serve(team: Team, machine: Machine, capsys: Captured) -> None:
    for content in ("one", "two", "three", "four", "five"):
        machine.register(ADA, content, valid=True)
        said(capsys, "publish")
    said(capsys, "promote", ADA, "--version", "1")
    said(capsys, "promote", ADA, "--version", "3")
    prune = ("prune", "--published", "--keep", "1")
    dry = said(capsys, *prune, "--dry-run").splitlines()
    assert dry[:-1] == [f"would remove {ADA} v{number}" for number in (2, 4)]
    versions = {engine.version: engine for engine in registry().engines()}
    with pytest.raises(RegistryError, match=rf"{ADA} v3 serves in production\. Nothing was"):
        registry().remove([versions[2], versions[3]])
    before = team.git("rev-parse", "engines")
    said(capsys, *prune)
    assert [engine.version for engine in registry().engines()] == [1, 3, 5]
    tags = team.git("tag", "--list").split()
    assert f"{ADA}@v2.0.0" not in tags and f"{ADA}@v3.0.0" in tags
    assert team.git("rev-parse", "engines^").strip() == before.strip()
    registry().remove([versions[5]])
    assert b"five" not in registry_plan(registry().engines()[-1]) and len(team.tree()) == 5
    machine.register(ADA, "six", valid=True)
    assert f"published {ADA} v4" in said(capsys, "publish")
