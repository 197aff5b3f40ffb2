"""What prune removes, and what it leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from enginery.cli.main import main
from enginery.project.paths import BUILDS, ENGINES, METRICS, REPORTS, engine_metrics, engine_report
from enginery.system.files import write_json
from tests.registered import register, report
from tests.standing.common import NAME


def params(**matrix: list[str]) -> None:
    """A params.yaml of the one engine, and of what `matrix` has else."""
    model = {"source": "m.onnx", "validation": "data/validation"}
    target = {"runtime": "tensorrt_rtx"}
    whole = {"models": ["m"], "targets": ["server"], "precisions": ["fp16"], **matrix}
    Path("params.yaml").write_text(
        yaml.safe_dump(
            {
                "matrix": whole,
                "models": dict.fromkeys(whole["models"], model),
                "int8": {},
                "targets": dict.fromkeys(whole["targets"], target),
                "toolchains": {},
            }
        )
    )


@pytest.fixture
def remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An engine that params.yaml has beside two that it has not; the paths of the two."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    params()
    for name in (NAME, "m/other/fp16", "m/server/fp32"):
        engine = register(name)
        write_json(engine_report(*name.split("/")), report(engine))
        write_json(engine_metrics(*name.split("/")), {"megabytes": 1.0})
    (BUILDS / NAME).mkdir(parents=True)
    (BUILDS / "m/gone/int8").mkdir(parents=True)  # a build that never passed its gate
    (BUILDS / "m/gone/int8/model.plan").write_bytes(b"?" * 3_000_000)
    (ENGINES / "m/other/.gitignore").write_text("/fp16\n")
    return [
        ENGINES / "m/other",
        REPORTS / "m/other",
        METRICS / "m/other",
        ENGINES / "m/server/fp32",
        REPORTS / "m/server/fp32.json",
        METRICS / "m/server/fp32.json",
        BUILDS / "m/gone",
    ]


def kept() -> list[str]:
    return sorted(path.as_posix() for path in Path("artifacts").rglob("*"))


def test_prune_removes_what_is_retired_and_nothing_else(
    remains: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = kept()
    assert main(["prune", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert kept() == before
    assert "would remove m/gone/int8: 3.0 MB in artifacts/build/m/gone/int8\n" in said
    assert "3 engines would be removed, 3.0 MB" in said
    assert main(["prune"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        line.replace("would remove", "removed") for line in said.splitlines()[:3]
    ]
    assert not [path for path in remains if path.exists()]
    paths = [*remains, *(inner for path in remains for inner in [path.as_posix()])]
    assert kept() == [
        path for path in before if not path.startswith(tuple(str(path) for path in paths))
    ]
    assert main(["prune"]) == 0
    assert capsys.readouterr().out == "Nothing to remove: params.yaml has every engine.\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "matrix:\n  models: [m]\n",
        "matrix: {models: [m], targets: [], precisions: [fp16]}\n",
        None,
    ],
)
def test_a_damaged_params_yaml_removes_nothing(
    remains: list[Path], capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    before = kept()
    Path("params.yaml").unlink()
    if content is not None:
        Path("params.yaml").write_text(content)
    assert main(["prune"]) == 1
    assert kept() == before
    assert capsys.readouterr().err.startswith("error: params.yaml: ")
    assert main(["list"]) == 0
    shown = capsys.readouterr()
    assert "Whether engines are retired cannot be told: params.yaml: " in shown.err
    assert "retired" not in shown.out


def test_prune_waits_for_no_run_and_follows_no_link(
    remains: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import fcntl

    outside = tmp_path / "outside"
    shutil.move(ENGINES / "m/other/fp16", outside)
    (ENGINES / "m/other/fp16").symlink_to(outside)
    lock = Path(".dvc/tmp/enginery.lock")
    lock.parent.mkdir(parents=True)
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["prune"]) == 1
    assert "is at work in this checkout" in capsys.readouterr().err
    assert all(path.exists() for path in remains)
    assert main(["prune"]) == 0
    assert sorted(path.name for path in outside.iterdir()) == ["manifest.json", "model.plan"]
    assert not (ENGINES / "m/other").exists()
