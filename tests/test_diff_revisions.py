"""`enginery diff` between commits: by real git and real DVC, whatever lies in the work tree."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from enginery.cli.main import main
from enginery.project.paths import ENGINES, engine_report
from enginery.registry.store import Engine
from enginery.system.files import write_json
from tests.registered import enter, metrics, records, register, report, timing

NAME = "m/t/int8"
DVC = {"stages": {"register": {"cmd": "true", "outs": [{f"{ENGINES}/{NAME}": {"persist": True}}]}}}
Captured = pytest.CaptureFixture[str]


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def commit(message: str) -> None:
    """Have DVC take and push what is registered, and git all else."""
    run(sys.executable, "-m", "dvc", "commit", "--quiet", "--force")
    run(sys.executable, "-m", "dvc", "push", "--quiet")
    run("git", "add", "-A")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", message)


def measured(engine: Engine, milliseconds: float) -> None:
    write_json(engine_report("m", "t", "int8"), report(engine, timing=timing(milliseconds)))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit of DVC alone, one with an engine, and one with a better one; all is pushed."""
    folder = tmp_path_factory.mktemp("revisions ü")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("git", "init", "-q")
        run(sys.executable, "-m", "dvc", "init", "--quiet")
        run(sys.executable, "-m", "dvc", "remote", "add", "--quiet", "--default", "r", "remote")
        Path("remote/.gitignore").parent.mkdir()
        Path("remote/.gitignore").write_text("*\n")
        run("git", "add", "-A")
        run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-m", "empty")
        Path("dvc.yaml").write_text(yaml.safe_dump(DVC))
        measured(register(NAME, runtime_version="10.3.0.26"), 2.0)
        commit("one")
        run("git", "tag", "v1")
        plan = folder / "some.plan"
        plan.write_bytes(b"another plan")
        made_of = records(plan)
        made_of["validate"]["report"]["candidate"] = metrics(0.495)
        measured(enter(NAME, plan, made_of), 1.0)
        commit("two")
    return folder


@pytest.fixture
def project(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "project"
    shutil.copytree(repository, copy, symlinks=True)
    monkeypatch.chdir(copy)
    return copy


def test_an_engine_of_then_beside_that_of_now(project: Path, capsys: Captured) -> None:
    assert main(["diff", "int8@v1"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == f"{NAME}@v1 -> {NAME}: different plans"
    assert "build runtime_version 10.3.0.26 -> 10.16.1.11" in lines
    assert "p50 ms 2.0 -> 1.0 (-50.0%)" in lines
    assert "result mAP50-95 0.5 -> 0.495 (-1.0%)" in lines


def test_two_commits_need_no_work_tree(project: Path, capsys: Captured) -> None:
    shutil.rmtree(project / ENGINES)
    assert main(["diff", f"{NAME}@HEAD~1", f"{NAME}@HEAD", "--json"]) == 0
    difference = json.loads(capsys.readouterr().out)
    assert difference["names"] == [f"{NAME}@HEAD~1", f"{NAME}@HEAD"]
    assert not difference["same_plan"]
    assert main(["diff", f"{NAME}@v1", f"{NAME}@HEAD~1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["same_plan"]


def test_what_the_cache_lacks_is_taken_from_the_remote(project: Path, capsys: Captured) -> None:
    shutil.rmtree(project / ".dvc/cache")
    assert main(["diff", f"{NAME}@v1"]) == 0
    assert "p50 ms" in capsys.readouterr().out
    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "remote")
    assert main(["diff", f"{NAME}@v1"]) == 1
    told = capsys.readouterr().err
    assert f"{ENGINES}/{NAME}/manifest.json of that commit is neither in DVC's cache nor" in told
    assert "`dvc push` it" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["int8"], "nothing to compare int8 with. Name a second engine, or a commit: `enginery"),
        (["int8@nowhere"], "git knows no commit 'nowhere' here. Name a commit"),
        (["int8@"], "git knows no commit '' here"),
        (["int8@--output=x"], "git knows no commit '--output=x' here"),
        (["int8@HEAD~2"], "HEAD~2 has no dvc.lock. Commit dvc.lock after a build"),
        (["fp16@v1"], f"no engine is called 'fp16' in v1. It has {NAME}"),
        (["int8@v1", "other"], "no engine is called 'other'"),
    ],
)
def test_what_cannot_be_compared(
    project: Path, capsys: Captured, words: list[str], told: str
) -> None:
    assert main(["diff", *words]) == 1
    output = capsys.readouterr()
    assert told in output.err and "Traceback" not in output.err
    assert not (project / "x").exists()


def test_outside_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["diff", "int8@v1"]) == 1
    assert "git knows no commit 'v1' here" in capsys.readouterr().err


def test_a_damaged_lock_of_a_commit(project: Path, capsys: Captured) -> None:
    Path("dvc.lock").write_text("stages: 7\n")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-a", "-m", "three")
    assert main(["diff", "int8@HEAD"]) == 1
    assert "dvc.lock of HEAD is damaged: it has no stages" in capsys.readouterr().err
