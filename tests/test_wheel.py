"""The wheel in an environment of its own, outside of the checkout: what a team installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from enginery.project.template import template_files
from tests.conftest import NEEDED, ROOT, small

SOURCES = (
    *NEEDED,
    "params.schema.json",
    ".dvc/.gitignore",
    ".gitignore",
    "pyproject.toml",
    "setup.py",
    "README.md",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of a copy of the checkout: its build writes beside the sources."""
    source, out = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in (*SOURCES, "LICENSE"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    stale = source / "build/lib/enginery/project/template/flows/old.py"  # of an earlier build
    stale.parent.mkdir(parents=True)
    stale.touch()
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel; the packages of requirements.lock are borrowed."""
    place = tmp_path_factory.mktemp("environment") / "a venv"
    venv.create(place, symlinks=True)
    packages = place / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip("--python", str(place / "bin/python"), "install", "--no-deps", "--no-index", str(wheel))
    return place


def pip(*arguments: str) -> None:
    line = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(line, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(
    environment: Path, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command of the environment, by its whole path: nothing is activated."""
    return subprocess.run(
        [environment / "bin/enginery", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        text=True,
        capture_output=True,
        timeout=500,
        check=False,
    )


def test_the_wheel_has_the_library_and_one_copy_of_the_template(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packed = {name for name in names if name.startswith("enginery/project/template/")}
    assert packed == {f"enginery/project/template/{name}" for name in template_files(ROOT)}
    top = {name.partition("/")[0] for name in names}
    assert {name.partition("-")[0] for name in top} == {"enginery"}
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if "METADATA" in name))
    core = [
        line.removeprefix("Requires-Dist: ")
        for line in metadata.decode().splitlines()
        if line.startswith("Requires-Dist: ") and "extra ==" not in line
    ]
    heavy = ("torch", "ultralytics", "prefect", "onnx", "dvc", "tensorrt")
    assert core and not [line for line in core if line.startswith(heavy)]


CORE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from enginery.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_core_works_without_the_extras(environment: Path, tmp_path: Path) -> None:
    from enginery.system.extras import MODULES

    script = tmp_path / "core.py"
    script.write_text(CORE.format(extras={name for names in MODULES.values() for name in names}))
    commands = ["init . --demo", "list", "verify", "toolchain list", "gpus", "upgrade", "build"]
    lines = [
        f"'{environment}/bin/python' {script} {command} || echo failed" for command in commands
    ]
    (tmp_path / "p").mkdir()
    shell = subprocess.run(
        ["sh", "-c", "\n".join(lines)], cwd=tmp_path / "p", text=True, capture_output=True
    )
    assert shell.stdout.count("failed") == 1, shell.stdout + shell.stderr
    assert shell.stderr.splitlines()[-1] == (
        "error: this needs onnx, which is not installed here. "
        "Install the extra: pip install 'enginery[build]'"
    )


def test_the_demo_is_built_by_the_installed_wheel(
    environment: Path, tmp_path: Path, server: str
) -> None:
    made = run(environment, tmp_path, "init", "a project ü", "--demo")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "a project ü"
    params = yaml.safe_load((project / "params.yaml").read_text())
    small(params)
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    line = ("--target", "rtx-ada", "--precision", "fp16")
    built = run(environment, project, "build", *line, PREFECT_API_URL=server)
    assert built.returncode == 0, built.stdout + built.stderr
    engine = "artifacts/engines/yolov8n-shapes/rtx-ada/fp16"
    assert (project / engine / "model.plan").is_file()
    assert run(environment, project, "verify").returncode == 0
