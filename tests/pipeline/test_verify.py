"""`verify`: engines that were edited, damaged or forged are found, and its cure cures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from enginery.pipeline.lockfile import md5_of
from enginery.project.stage import Stage
from enginery.registry.manifest import compose
from tests.pipeline.common import ENGINE, PLAN, Project, Run, flip, lose, object_of
from tests.registered import records

WHOLE = "1 engines, every digest as recorded\n"


def forge(folder: Path) -> None:
    """Another plan, with a manifest that fits it."""
    (folder / "model.plan").write_bytes(b"another plan")
    manifest = compose(Stage("register", "m", "t", folder.name), records(folder / "model.plan"))
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_whole_engines_are_whole(project: Project, enginery: Run) -> None:
    assert enginery("verify") == (0, WHOLE, "")
    assert enginery("verify", "--restore") == (0, WHOLE, "")
    subprocess.run(["rm", "-rf", project.root / ".git"], check=True)
    assert enginery("verify") == (0, WHOLE, "")
    (project.root / "dvc.lock").unlink()
    assert enginery("verify") == (
        0,
        "there is no dvc.lock: engines were compared with their own manifests only\n" + WHOLE,
        "",
    )


def test_a_plan_and_manifest_that_were_edited_together_are_found(
    project: Project, enginery: Run
) -> None:
    forge(project.root / ENGINE)
    found = (1, f"{ENGINE}: plan and manifest fit each other, and are not what dvc.lock records\n")
    assert enginery("verify")[:2] == found
    (project.root / "dvc.lock").unlink()
    assert enginery("verify")[:2] == found  # the last commit has one
    code, out, _ = enginery("verify", "--restore")
    assert (code, out.splitlines()[-1] + "\n") == (0, WHOLE)


def test_an_engine_that_dvc_lock_does_not_record_is_none(project: Project, enginery: Run) -> None:
    planted = project.root / "artifacts/engines/m/t/int8"
    planted.mkdir()
    forge(planted)
    code, out, error = enginery("verify")
    assert (code, out) == (1, "artifacts/engines/m/t/int8: dvc.lock does not record this engine\n")
    assert (
        error
        == "1 of 2 engines are damaged: `enginery verify --restore` brings back what DVC recorded\n"
    )


def test_a_lock_file_that_was_edited_with_the_engine_is_told(
    project: Project, enginery: Run
) -> None:
    before = md5_of(project.root / ENGINE)
    forge(project.root / ENGINE)
    lock = project.root / "dvc.lock"
    lock.write_text(lock.read_text().replace(before, md5_of(project.root / ENGINE)))
    told = (
        "not as in the last commit's dvc.lock, so built here since or altered with it: m/t/fp16\n"
    )
    assert enginery("verify") == (0, told + WHOLE, "")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"plan": 1}', "<<<<<<< HEAD\n"])
def test_a_damaged_manifest_is_found_and_restored(
    project: Project, enginery: Run, content: str
) -> None:
    manifest = project.root / ENGINE / "manifest.json"
    manifest.write_text(content)
    code, out, _ = enginery("verify")
    assert (code, out.startswith(f"{ENGINE}: manifest.json ")) == (1, True)
    assert enginery("verify", "--restore")[0] == 0
    assert enginery("verify") == (0, WHOLE, "")


@pytest.mark.parametrize(
    "harmed",
    [
        ["registry"],
        ["registry", "cache", "build"],
        ["registry", "cache", "build", "remote"],
        ["registry", "cache", "other machine"],
        ["registry", "cache", "other machine", "remote"],
    ],
)
def test_the_cure_that_verify_names_cures(
    project: Project, remote: Path, enginery: Run, harmed: list[str]
) -> None:
    """Bits that rot leave times and sizes as they were: DVC finds everything up to date."""
    before = project.digests()
    digest = object_of(project, PLAN)
    places = {
        "registry": project.root / ENGINE / "model.plan",
        "cache": project.cached(digest),
        "build": project.root / PLAN,
        "remote": remote / digest[:2] / digest[2:],
    }
    if "other machine" in harmed:  # it built the engine: only what is registered came here
        lose(project, PLAN)
    for place in harmed:
        if place in places:
            flip(places[place])
    code, out, error = enginery("verify")
    assert (
        code,
        out.startswith(f"{ENGINE}/model.plan: sha256 "),
        "`enginery verify --restore`" in error,
    ) == (1, True, True)
    code, out, error = enginery("verify", "--restore")
    if "remote" not in harmed:
        assert (code, out.splitlines()[-1] + "\n") == (0, WHOLE)
    else:
        assert (code, "`enginery build` makes them again" in error) == (1, True)
        states = project.build()
        assert (states["file"], states["kept"]) == ("completed", "completed")
        assert enginery("push")[0] == 0  # the remote is whole again
        assert md5_of(places["remote"]) == digest
    assert enginery("verify") == (0, WHOLE, "")
    assert {path: found for path, found in project.digests().items() if found} == {
        path: found for path, found in before.items() if (project.root / path).exists()
    }
