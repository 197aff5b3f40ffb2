"""A team's project: what `init` writes, what `add-model` adds, what `upgrade` replaces."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from enginery import __version__
from enginery.datasets import read_dataset
from enginery.datasets.interface import Dataset, TextLabels
from enginery.datasets.sampling import copies, sample
from enginery.errors import ConfigError, DamagedFileError, DataError, EngineryError
from enginery.project import origin, template
from enginery.project import upgrade as upgrading
from enginery.project.adding import ModelRequest
from enginery.project.init import InitRequest, init
from enginery.project.load import load_spec
from enginery.project.models import (
    TARGETS,
    NewModel,
    first_params,
    further_params,
    guessed_task,
    model_name,
    new_targets,
)
from enginery.project.origin import ORIGIN, check_version, read_origin
from enginery.project.upgrade import decide, upgrade
from enginery.project.yaml_text import LayoutError, YamlText, block
from enginery.system.extras import missing_extra, require
from tests.conftest import ROOT
from tests.test_home import STRANGER

PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")
MODEL = NewModel("best", "data/best/best.pt", "detect", "data/best/validation", "data/best/cal")
DEMO = InitRequest(None)


def files_of(root: Path) -> dict[str, bytes]:
    """Their contents by name, without what git and DVC keep for themselves."""
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    own = (".git/", ".dvc/tmp/", ".dvc/cache/")
    return {name: (root / name).read_bytes() for name in names if not name.startswith(own)}


def commands(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", *command]
    return subprocess.run(line, cwd=folder, text=True, capture_output=True, check=False)


# --- params.yaml as text


def test_edits_leave_comments_and_all_other_lines_alone() -> None:
    text = YamlText(PARAMS)
    text.append(("matrix", "models"), "two")
    text.insert(("models",), block({"two": {"source": "a b.pt", "batch": [1, 2, 4]}}))
    text.insert(("toolchains",), "trt: { python: p }\n")
    after = [line for line in text.text.splitlines() if line not in PARAMS.splitlines()]
    assert after == [
        "  models: [yolov8n-shapes, two]",
        "  two:",
        "    source: a b.pt",
        "    batch: [1, 2, 4]",
        "toolchains:",
        "  trt: { python: p }",
    ]
    assert text.value()["toolchains"] == {"trt": {"python": "p"}}


def test_a_key_goes_with_its_comment_and_a_block_may_become_a_line() -> None:
    text = YamlText("# first\na: 1 # one\n\n# of b\nb:\n  c: 2\n  # last\n\n# of d\nd: [x]\n")
    text.remove(("a",))
    text.set(("b",), {})
    assert text.text == "# of b\nb: {}\n  # last\n\n# of d\nd: [x]\n"
    with pytest.raises(LayoutError):
        text.append(("b",), "item")
    with pytest.raises(LayoutError):
        text.set(("no", "such"), 1)


LAYOUTS = {
    "inline list": "matrix:\n  models: [a]\nmodels:\n  a: {x: 1}\nint8: {}\n",
    "list of lines": "matrix:\n  models:\n    - a # first\nmodels:\n    a:\n        x: 1\nint8:\n",
    "inline mappings": "matrix: {models: [a]}\nmodels: {a: {x: 1}}\nint8: {a: {x: 1}} # c\n",
    "no int8": "# top\nmatrix: {models: [a]}\nmodels: {a: {x: 1}}\n",
}
LAYOUTS = {name: f"{text}targets:\n  t: 1\n" for name, text in LAYOUTS.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_is_added_to_every_layout(layout: str) -> None:
    before = yaml.safe_load(LAYOUTS[layout])
    after = further_params(LAYOUTS[layout], MODEL)
    value = yaml.safe_load(after)
    assert value["matrix"]["models"] == ["a", "best"]
    assert value["models"] == {**before["models"], "best": MODEL.settings()}
    assert value["int8"] == {**(before.get("int8") or {}), "best": MODEL.int8_settings()}
    assert value["targets"] == {"t": 1}
    assert after.count("#") == LAYOUTS[layout].count("#")
    with pytest.raises(ConfigError, match="there is one already"):
        further_params(after, MODEL)


def test_the_teams_model_takes_the_demos_place(tmp_path: Path) -> None:
    targets = new_targets(["rtx-ada", "l4", "box=8.6"])
    text = first_params(PARAMS, MODEL, targets, ["fp32", "fp16", "int8"])
    assert "demo" not in text and "shapes" not in text
    (tmp_path / "params.yaml").write_text(text)
    spec = load_spec(tmp_path / "params.yaml")
    assert spec.matrix.targets == tuple(spec.targets) == ("rtx-ada", "l4", "box")
    assert spec.models["best"].validation == "data/best/validation"
    assert spec.int8["best"].minimum_images == 300
    comments = [line.split("#", 1)[1] for line in PARAMS.splitlines() if "#" in line]
    kept = [comment for comment in comments if comment in text]
    assert len(kept) == len(comments) - 2  # the demo's images, and how few they are


def test_an_onnx_has_its_own_opset_and_without_images_there_is_no_int8(tmp_path: Path) -> None:
    model = NewModel("net", "data/net/net.onnx", "classify", "data/net/validation", None)
    (tmp_path / "params.yaml").write_text(
        first_params(PARAMS, model, new_targets(["rtx-ada"]), ["fp32", "fp16"])
    )
    spec = load_spec(tmp_path / "params.yaml")
    assert (spec.models["net"].size, dict(spec.int8)) == ((224, 224), {})


def test_targets_are_known_gpus_or_say_their_compute_capability() -> None:
    assert [target.runtime for target in new_targets(["orin", "rtx-ada"])] == [
        "tensorrt",
        "tensorrt_rtx",
    ]
    with pytest.raises(ConfigError) as error:
        new_targets(["rtx-4090", "x=sm_89", "A=8.9"])
    unknown, capability, name = error.value.mistakes
    assert unknown.startswith("--target rtx-4090: unknown; known are rtx-turing, ")
    assert "'sm_89' is no such as 8.9" in capability and "small letters" in name
    assert all(target.name == name for name, target in TARGETS.items())


def test_names_and_tasks_come_from_the_file() -> None:
    assert [model_name(stem) for stem in ("best", "YOLO11n Seg.v2", "--")] == [
        "best",
        "yolo11n-seg-v2",
        "model",
    ]
    assert [guessed_task(stem) for stem in ("yolo11n-seg", "best", "yolov8n-cls")] == [
        "segment",
        "detect",
        "classify",
    ]


# --- data sets


def draw(folder: Path, count: int, first: int = 0, labels: bool = True) -> Path:
    """Files with the names of images, each with its own bytes."""
    folder.mkdir(parents=True)
    beside = Path(*["labels" if part == "images" else part for part in folder.parts])
    beside.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        (folder / f"{number}.jpg").write_bytes(b"image %06d" % number)
        if labels:
            (beside / f"{number}.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    return folder


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data set as Ultralytics' users have them."""
    draw(tmp_path / "set ü/images/val", 3)
    draw(tmp_path / "set ü/images/train", 9, first=2)
    data = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "a"}}
    (tmp_path / "set ü/data.yaml").write_text(yaml.safe_dump(data))
    return tmp_path / "set ü"


def test_the_sample_is_the_same_wherever_the_data_lies(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_dataset(shapes / "data.yaml")
    assert (len(dataset.validation), len(dataset.train)) == (3, 9)
    whole = sample(dataset)
    assert [image.name for image in whole] == sorted(f"{number}.jpg" for number in range(3, 11)), (
        "2.jpg is a validation image, by its bytes"
    )
    monkeypatch.setattr("enginery.datasets.sampling.SAMPLE", 5)
    chosen = sample(dataset)
    assert len(chosen) == 5 and set(chosen) < set(whole)
    shutil.move(shapes, tmp_path / "moved")
    again = sample(read_dataset(tmp_path / "moved"))
    assert [image.name for image in again] == [image.name for image in chosen]


def test_every_layout_of_a_data_set_is_read(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    draw(listed / "images/v", 2)
    (listed / "val.txt").write_text("./images/v/0.jpg\n./images/v/1.jpg\n")
    (listed / "data.yaml").write_text("val: val.txt\n")
    assert [image.name for image in read_dataset(listed).validation] == ["0.jpg", "1.jpg"]
    draw(tmp_path / "exported/valid/images", 2)
    draw(tmp_path / "exported/train/images", 4, first=5)
    (tmp_path / "exported/data.yaml").write_text("train: ../train/images\nval: ../valid/images\n")
    exported = read_dataset(tmp_path / "exported/data.yaml")
    assert (len(exported.validation), len(exported.train)) == (2, 4)
    draw(tmp_path / "classes/val/cat", 2, labels=False)
    draw(tmp_path / "classes/train/cat", 1, labels=False)
    classes = read_dataset(tmp_path / "classes")
    assert list(copies(classes.validation, "classify", classes.labels)) == [
        "cat/0.jpg",
        "cat/1.jpg",
    ]
    draw(tmp_path / "flat/images", 1)
    assert read_dataset(tmp_path / "flat").train == ()


def test_images_of_one_name_keep_both(tmp_path: Path) -> None:
    folders = [draw(tmp_path / name / "images", 1) for name in ("a", "b")]
    images = tuple(folder / "0.jpg" for folder in folders)
    files = copies(images, "detect", TextLabels())
    assert len(files) == 4 and set(files.values()) >= set(images)
    assert sample(Dataset((), images)) == images


BROKEN = {
    "a: [": "is no YAML",
    "- 1": "is no data.yaml",
    "train: x": "names no `val` images",
    "val: nowhere": "names nowhere, and .* is not there",
    "path: nowhere\nval: x": "`path` 'nowhere' is no folder: .* nor nowhere",
    "val: empty": "`val` holds no images",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_data_set_that_cannot_be_used_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(DataError, match=BROKEN[content]):
        read_dataset(tmp_path / "data.yaml")
    with pytest.raises(DataError, match="no such file or folder"):
        read_dataset(tmp_path / "no.yaml")


def test_what_belongs_to_an_image_comes_with_it(tmp_path: Path) -> None:
    image = draw(tmp_path / "a/images", 1, labels=False) / "0.jpg"
    (tmp_path / "a/masks").mkdir()
    for file in ("masks/0.png", "images/0.npz"):
        (tmp_path / "a" / file).write_bytes(b"more")
    assert list(copies([image], "semantic", TextLabels())) == ["images/0.jpg", "masks/0.png"]
    assert list(copies([image], "semantic")) == ["images/0.jpg"]
    assert list(copies([image], "tensors")) == ["images/0.jpg", "images/0.npz"]
    assert list(copies([image.with_suffix(".npz")], "tensors")) == ["images/0.npz"]


def test_arrays_are_for_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"weights")
    for part in ("val", "train"):
        (tmp_path / "data" / part).mkdir(parents=True)
        (tmp_path / "data" / part / "0.npz").write_bytes(part.encode())
    request = InitRequest(
        ModelRequest(tmp_path / "best.pt", tmp_path / "data"), new_targets(["l4"])
    )
    with pytest.raises(DataError, match=r"holds arrays, and detect takes images. Give images, or"):
        init(tmp_path / "team", request)


# --- a new project


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
    names = [name for name, text in files.items() if b"demo" in text and name != "params.yaml"]
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


# --- upgrade


@pytest.mark.parametrize(
    ("written", "here", "new", "action"),
    [
        ("1", "1", "1", "same"),
        ("1", "1", "2", "replace"),
        ("1", "x", "2", "keep"),
        ("1", "x", "1", "same"),  # only the team changed it
        ("1", "2", "2", "same"),
        ("1", None, "2", "deleted"),
        ("1", None, None, "same"),
        (None, None, "2", "add"),
        (None, "x", "2", "keep"),
        ("1", "1", None, "remove"),
        ("1", "x", None, "keep"),
    ],
)
def test_what_happens_to_a_file(
    written: str | None, here: str | None, new: str | None, action: str
) -> None:
    assert decide(written, here, new) == action


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and a later version's template in `tmp_path/later`."""
    later = tmp_path / "later"
    for name in template.template_files(ROOT):
        (later / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, later / name)
    monkeypatch.setattr(template, "PACKED", later)
    init(tmp_path / "project", DEMO)
    return tmp_path / "project"


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(origin, "__version__", version)
    monkeypatch.setattr(upgrading, "__version__", version)


def test_an_upgrade_over_two_versions(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later"
    for name in ("tasks/build.py", "tasks/export.py", "tasks/images.py"):
        (later / name).write_text("# 2.0\n")
    (later / "tasks/new.py").write_text("# new\n")
    (later / "tasks/timing.py").unlink()
    (later / ".gitignore").write_text("/.venv/\n/more\n")
    (project / "tasks/export.py").write_text("# ours\n")
    (project / "tasks/images.py").unlink()
    (project / "tasks/simplify.py").write_text("# ours, and the same in 2.0\n")
    install(monkeypatch, "2.0.0")
    before = files_of(project)
    planned = upgrade(project, dry_run=True)
    assert files_of(project) == before
    done = upgrade(project)
    assert done == planned
    assert [str(change) for change in done.changes] == [
        "tasks/build.py: brought up to date",
        "tasks/export.py: kept: you changed it, and so does this version",
        "tasks/images.py: stays deleted: you removed it",
        "tasks/new.py: new",
        "tasks/timing.py: removed: this version has no such file",
        ".gitignore: brought up to date",
    ]
    assert "-# ours\n+# 2.0\n" in done.changes[1].diff
    assert (project / "tasks/export.py").read_text() == "# ours\n"
    assert not (project / "tasks/images.py").exists()
    assert (project / ".gitignore").read_text().endswith("/more\n")
    assert read_origin(project).version == "2.0.0"
    (later / "tasks/build.py").write_text("# 3.0\n")
    install(monkeypatch, "3.0.0")
    assert [str(change) for change in upgrade(project).changes] == [
        "tasks/build.py: brought up to date",
        "tasks/images.py: stays deleted: you removed it",
    ]


def test_a_newer_versions_project_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((project / ORIGIN).read_text())
    (project / ORIGIN).write_text(json.dumps({**content, "version": "99.10"}))
    said = f"Enginery 99.10 wrote this project, and {__version__} is installed. Install it: pip"
    for ask in (upgrade, check_version):
        with pytest.raises(EngineryError, match=said):
            ask(project)
    install(monkeypatch, "99.9")
    with pytest.raises(EngineryError, match=r"Enginery 99\.10 wrote this project"):
        check_version(project)
    (project / ORIGIN).write_text("[]")
    with pytest.raises(DamagedFileError, match="is no record of `enginery init`"):
        upgrade(project)
    (project / ORIGIN).unlink()
    check_version(project)
    with pytest.raises(EngineryError, match=r"has no \.enginery\.json"):
        upgrade(project)


def test_what_git_has_not_committed_is_a_warning(project: Path) -> None:
    subprocess.run(["git", "init", "-q", project], check=True)
    [warning] = upgrade(project).warnings
    assert warning.startswith("git has changes here that are not committed")
    (project / "params.yaml").write_text("matrix: 1\n")
    assert upgrade(project).warnings[1].startswith("this version refuses ")


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
