"""A new project: what `init` writes, asks and refuses, and libraries that are missing."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from enginery.errors import ConfigError, EngineryError
from enginery.project import template
from enginery.project.adding import ModelRequest
from enginery.project.init import InitRequest, init
from enginery.project.load import load_spec
from enginery.project.models import new_targets
from enginery.project.origin import ORIGIN
from enginery.system.extras import missing_extra, require
from tests.conftest import ROOT
from tests.init.common import DEMO, commands, files_of
from tests.test_home import STRANGER


def test_the_demos_project_is_this_repository(tmp_path: Path) -> None:
    project = init(tmp_path / "new ü", DEMO)
    written = files_of(tmp_path / "new ü")
    for name in template.template_files(ROOT):
        if name != ".dvc/config":  # there is no git here
            assert written.pop(name) == (ROOT / name).read_bytes()
    assert b"no_scm = true" in written.pop(".dvc/config")
    assert written.pop("artifacts/matrix.yaml").startswith(b"# Written by Enginery")
    assert list(written) == [ORIGIN] and not project.in_git
    with pytest.raises(EngineryError, match="is a project of Enginery already"):
        init(tmp_path / "new ü", DEMO)


def test_without_the_demo_nothing_names_it() -> None:
    files = template.project_files(demo=False)
    own = ("params.yaml", "params.schema.json")  # the one is filled in, the other is of its keys
    names = [name for name, text in files.items() if b"demo" in text and name not in own]
    assert names == []
    assert "tasks/demo_data.py" not in files
    here, there = (
        yaml.safe_load(text["dvc.yaml"]) for text in (template.project_files(True), files)
    )
    assert here["stages"].keys() - there["stages"].keys() == {"demo-data"}


def test_a_teams_own_files_stay(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = ours\n")
    (tmp_path / ".gitignore").write_text("/secret\n__pycache__/")
    (tmp_path / "README.md").write_text("ours\n")
    assert init(tmp_path, DEMO).in_git
    assert (tmp_path / ".dvc/config").read_text() == "[core]\n    remote = ours\n"
    ignored = (tmp_path / ".gitignore").read_text().splitlines()
    assert ignored[:2] == ["/secret", "__pycache__/"] and ignored.count("__pycache__/") == 1
    assert "/artifacts/*" in ignored


def test_a_file_in_the_way_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    with pytest.raises(EngineryError, match=r"dvc\.yaml is in the way"):
        init(tmp_path, DEMO)
    assert files_of(tmp_path) == {"dvc.yaml": b"stages: {}\n"}
    (tmp_path / "tasks").write_text("a file\n")
    (tmp_path / "dvc.yaml").unlink()
    with pytest.raises(EngineryError, match="tasks is in the way: a folder is needed"):
        init(tmp_path, DEMO)
    with pytest.raises(EngineryError, match="is a file"):
        init(tmp_path / "tasks", DEMO)


def test_a_folder_without_rights_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    line = [*STRANGER, sys.executable, "-m", "enginery", "init", str(tmp_path / "closed"), "--demo"]
    result = subprocess.run(line, cwd=ROOT, text=True, capture_output=True, check=False)
    cure = "cannot be written. Correct its rights"
    assert (result.returncode, result.stderr) == (1, f"error: {tmp_path}/closed {cure}\n")


def test_what_is_missing_is_said_where_nobody_can_be_asked(tmp_path: Path) -> None:
    result = commands(ROOT, "enginery", "init", str(tmp_path), "--model", "m.pt")
    said = "error: --data, --target are missing. Give them, or --demo for the demo"
    assert (result.returncode, result.stderr[: len(said)]) == (1, said)
    assert list(tmp_path.iterdir()) == []


def test_a_person_on_a_terminal_is_asked(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    line = [sys.executable, "-m", "enginery", "init", str(tmp_path / "new"), "--model", "m-seg.pt"]
    os.write(ours, b"\nno.yaml\n\nrtx-4090\n")  # the data set: nothing, then a name
    result = subprocess.run(line, cwd=ROOT, stdin=theirs, text=True, capture_output=True)
    os.close(ours)
    os.close(theirs)
    asked = result.stdout.count("Data set (data.yaml, or a folder): ")
    assert (result.returncode, asked) == (1, 2)
    assert (
        "Task (detect, segment, pose, obb, classify, semantic, tensors) [segment]: "
        in result.stdout
    )
    assert "--target rtx-4090: unknown; known are" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team/.gitignore").write_text("ours\n")
    names = iter(range(5))

    def fails(path: Path, content: bytes) -> None:
        if next(names, None) is None:
            raise OSError(28, "No space left on device", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    monkeypatch.setattr("enginery.project.draft.write_bytes", fails)
    with pytest.raises(OSError, match="No space left"):
        init(tmp_path / "team", DEMO)
    assert files_of(tmp_path) == {"team/.gitignore": b"ours\n"}


def test_a_team_has_its_model_in_a_folder_of_its_repository(tmp_path: Path, shapes: Path) -> None:
    team = tmp_path / "a team"
    subprocess.run(["git", "init", "-q", team], check=True)
    (team / "best.pt").write_bytes(b"weights")
    options = ["--model", "best.pt", "--data", str(shapes), "--target", "rtx-ada,l4"]
    made = commands(team, "enginery", "init", "engines", *options)
    assert (made.returncode, made.stderr) == (0, "")
    project = team / "engines"
    spec = load_spec(project / "params.yaml")
    assert spec.models["best"].source == "data/best/best.pt"
    assert len(list((project / "data/best/calibration/images").iterdir())) == 8
    assert len(list((project / "data/best/validation/labels").iterdir())) == 3
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    staged = subprocess.run(
        ["git", "diff", "--cached", "--name-only", "--relative"],
        cwd=project,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.split()
    assert "data/best/best.pt.dvc" in staged and not {"data/best/best.pt"} & set(staged)
    assert not any("demo" in name for name in staged)

    before = (project / "params.yaml").read_text()
    (team / "second.onnx").write_bytes(b"")
    refused = commands(project, "enginery", "add-model", "../no.pt", "--data", str(shapes))
    assert (refused.returncode, refused.stderr) == (
        1,
        "error: ../no.pt: no such file. Correct the model's path\n",
    )
    added = commands(
        project,
        "enginery",
        *("add-model", "../best.pt", "--data", str(shapes), "--name", "two"),
        *("--target", "l4,box=8.6", "--precision", "fp16"),
    )
    assert added.returncode == 0, added.stderr
    assert (
        "To commit: git add params.yaml artifacts/matrix.yaml data/two/.gitignore" in added.stdout
    )
    kept = [line for line in before.splitlines() if "models: [" not in line]
    assert set(kept) <= set((project / "params.yaml").read_text().splitlines())
    engines = [str(engine) for engine in load_spec(project / "params.yaml").engines()]
    assert engines[-3:] == ["best/l4/int8", "two/l4/fp16", "two/box/fp16"]
    stages = yaml.safe_load((project / "artifacts/matrix.yaml").read_text())["stages"]
    assert list(stages["engines"])[-2:] == ["two-l4-fp16", "two-box-fp16"]
    assert (project / "data/two/best.pt.dvc").is_file()
    assert not (project / "data/two/calibration").exists()

    (team / ".gitignore").write_text("/engines/data/three\n")  # DVC refuses what git ignores
    whole = files_of(project)
    line = ("add-model", "../best.pt", "--data", str(shapes), "--name", "three")
    failed = commands(project, "enginery", *line)
    assert failed.returncode == 1 and failed.stderr.startswith("error: DVC does not track")
    assert failed.stderr.count("\n") == 1
    assert files_of(project) == whole


# --- extras


def test_a_missing_library_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    error = missing_extra(ModuleNotFoundError("No module named 'onnx.x'", name="onnx.x"))
    assert str(error) == (
        "this needs onnx, which is not installed here. "
        "Install the extra: pip install 'enginery[build]'"
    )
    assert missing_extra(ModuleNotFoundError("of the user's", name="theirs")) is None
    assert missing_extra(ImportError("broken", name="onnx")) is None
    require("serve")
    monkeypatch.setattr("enginery.system.extras.find_spec", lambda name: None)
    with pytest.raises(EngineryError, match=r"enginery\[build\]"):
        require("build")


def test_a_request_with_wrong_words_is_told_at_once(tmp_path: Path, shapes: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"x")
    request = ModelRequest(tmp_path / "m.pt", shapes, task="detection", name="A")
    with pytest.raises(ConfigError) as error:
        init(tmp_path / "new", InitRequest(request, new_targets(["l4"])))
    assert len(error.value.mistakes) == 2
