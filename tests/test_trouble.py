"""What goes wrong in the middle of a run: signals at every step, a full disk, bad images, models
that do not fit.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from enginery.system.files import sha256
from tests.conftest import Checkout, use_onnx
from tests.registered import change_manifest
from tests.test_flow import build, counted, refused

MODEL = "yolov8n-shapes"
# a run is stopped when this step has ended: in the beginning of the next one, of each kind one
ENDS = [
    ("fingerprint", signal.SIGINT),
    (f"export {MODEL}", signal.SIGTERM),
    (f"simplify {MODEL}", signal.SIGINT),
    (f"calibration-images {MODEL}", signal.SIGTERM),
    (f"calibrate {MODEL}", signal.SIGINT),
    (f"build {MODEL} fp32 for rtx-ada", signal.SIGTERM),
    (f"register {MODEL} fp32 for rtx-ada", signal.SIGINT),
]


def stop_after(checkout: Checkout, step: str, sign: signal.Signals) -> None:
    # A background job of a shell ignores SIGINT, and so would its children. Steps run one after
    # another, so that each is stopped in the beginning of the next; tests/test_own_steps.py stops
    # some that run side by side.
    run = [sys.executable, "-m", "enginery", "build", "--jobs", "1"]
    command = ["env", "--default-signal=INT", *run]
    process = subprocess.Popen(
        command,
        cwd=checkout.root,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("Completed") and step in line:
            process.send_signal(sign)
    assert process.wait() != 0, said
    assert not [line for line in said if "Traceback" in line]
    assert not list((checkout.root / "artifacts").rglob("*.part"))


def digests(checkout: Checkout) -> dict[str, str]:
    """Every graph and plan below artifacts/."""
    root = checkout.root / "artifacts"
    return {
        str(path.relative_to(root)): sha256(path)
        for path in root.rglob("*")
        if path.suffix in (".onnx", ".plan")
    }


def test_a_run_stopped_at_every_step_goes_on_and_ends_in_the_same_bytes(
    fresh: Checkout, built: Checkout
) -> None:
    # One target and two precisions: every stop costs a start, and what is built beside them no
    # test.
    fresh.change(
        lambda params: params["matrix"].update(targets=["rtx-ada"], precisions=["fp32", "int8"])
    )
    for step, sign in ENDS:
        stop_after(fresh, step, sign)
    states = build(fresh)
    assert states[f"export {MODEL}"] == "Cached"
    assert digests(fresh).items() <= digests(built).items()
    assert len([name for name in digests(fresh) if name.endswith(".plan")]) == 4


def test_no_room_is_one_line_with_the_path(fresh: Checkout) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    result = subprocess.run(
        [sys.executable, "-m", "enginery", "build"],
        cwd=fresh.root,
        env=fresh.environment(),
        preexec_fn=limit,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1
    cure = (
        "Free some space there, or set TMPDIR to a folder that has some"  # the copy of the weights
    )
    assert f"no room to write {tempfile.gettempdir()}. {cure}" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert not list((fresh.root / "artifacts").rglob("*.part"))
    assert counted(build(fresh), "Failed") == set()


def own_images(checkout: Checkout) -> Path:
    """The demo's validation images as a user's own folder."""
    shutil.copytree(checkout.root / "data/demo/validation", checkout.root / "data/own")
    checkout.change(lambda params: params["models"][MODEL].update(validation="data/own"))
    return checkout.root / "data/own"


def break_image(folder: Path) -> str:
    broken = sorted((folder / "images").iterdir())[2]
    broken.write_bytes(b"no picture")
    return f"{broken.name} cannot be read as an image"


def lose_labels(folder: Path) -> str:
    shutil.rmtree(folder / "labels")
    return "holds no labels"


def lose_images(folder: Path) -> str:
    shutil.rmtree(folder / "images")
    (folder / "images").mkdir()
    return "holds no images"


@pytest.mark.parametrize("damage", [break_image, lose_labels, lose_images])
def test_bad_images_are_one_line_and_the_registry_stays(built: Checkout, damage: Any) -> None:
    refused(built, damage(own_images(built)))
    assert built.run("enginery", "verify").returncode == 0


def test_an_own_graph_with_open_sizes(built: Checkout) -> None:
    def open_sizes(params: dict[str, Any]) -> None:
        params["models"][MODEL].update(batch=[1, 1, 2], height=[96, 160, 192], width=160)
        params["matrix"].update(targets=["rtx-ada"], precisions=["fp16"])
        params["int8"] = {}

    built.change(open_sizes)
    build(built)
    shutil.copyfile(
        built.root / f"artifacts/models/{MODEL}/export/model.onnx", built.root / "data/own.onnx"
    )
    built.change(lambda params: use_onnx(params, "data/own.onnx"))
    assert f"build {MODEL} fp16 for rtx-ada" in counted(
        build(built), "Cached"
    )  # the same graph, so the same plan
    built.change(lambda params: params["models"][MODEL].update(height=[96, 160, 200]))
    result = built.run("enginery", "build")
    assert result.returncode == 1
    assert "axis 2: [96, 160, 200] must be multiples of the stride, 32" in result.stderr


def test_another_clone_restores_from_the_remote(
    built: Checkout, fresh: Checkout, tmp_path: Path
) -> None:
    for checkout in (built, fresh):
        assert (
            checkout.run(
                "dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote")
            ).returncode
            == 0
        )
    pushed = built.run("dvc", "push", "--run-cache")
    assert pushed.returncode == 0, pushed.stderr
    states = build(fresh)
    made = {
        name
        for name in counted(states, "Completed")
        if not name.startswith(("fingerprint", "register"))
    }
    assert made == set()
    assert digests(fresh) == digests(built)


def flip(path: Path) -> None:
    """Change one byte and nothing else: neither times nor rights."""
    info, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(info.st_mode)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_a_lock_file_and_bytes_that_are_damaged_are_repaired(built: Checkout) -> None:
    """What a kill, a disk and a hand did, all at once."""
    before = digests(built)
    name = f"{MODEL}/rtx-ada/fp16/model.plan"
    plan, own = built.root / "artifacts/engines" / name, built.root / "artifacts/build" / name
    digest = hashlib.md5(plan.read_bytes(), usedforsecurity=False).hexdigest()
    for path in (plan, own, built.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]):
        flip(path)
    (built.root / "dvc.lock").write_bytes(b"")
    status = built.run("enginery", "status")
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, "2 of 24 steps are stale"), (
        status.stdout
    )
    assert status.stderr.startswith(
        "dvc.lock was damaged (it is empty) and is as the last step that ended well left it"
    )
    verified = built.run("enginery", "verify")
    assert (verified.returncode, f"{name}: sha256" in verified.stdout) == (1, True)
    restored = built.run("enginery", "verify", "--restore")
    assert (restored.returncode, "`enginery build` makes them again" in restored.stderr) == (
        1,
        True,
    )
    (built.root / "dvc.lock").write_bytes((built.root / "dvc.lock").read_bytes()[:-400])
    result = built.run("enginery", "build")
    assert result.returncode == 0, result.stderr
    assert "dvc.lock was damaged" in result.stderr
    assert digests(built) == before
    assert built.run("enginery", "verify").stdout == "6 engines, every digest as recorded\n"


def test_looking_at_a_run_at_work_changes_nothing_of_it(built: Checkout) -> None:
    """Recipes are read by the steps of the run: what `status` would write there is what they would
    say they were made by.
    """
    recipe = next((built.root / "artifacts/recipes/build").iterdir())
    before = recipe.read_bytes()
    built.change(
        lambda params: [
            target.update(optimization_level=1) for target in params["targets"].values()
        ]
    )
    with (built.root / ".dvc/tmp/enginery.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status = built.run("enginery", "status")
    assert (
        status.returncode,
        "is at work in this checkout. Wait for it to end" in status.stderr,
    ) == (1, True)
    assert recipe.read_bytes() == before


def test_a_recipe_that_changes_while_its_step_runs_fails_it(tmp_path: Path) -> None:
    code = (
        "from enginery.pipeline.step import step\n"
        "@step('export', version=1, of=('model',))\n"
        "def work(job): job.stage.recipe.write_text('{}')\n"
        "work.main()"
    )
    (tmp_path / "artifacts/recipes/export").mkdir(parents=True)
    (tmp_path / "artifacts/recipes/export/m.json").write_text("[]")
    for returncode in (1, 0):  # the second time it says so already
        result = subprocess.run(
            [sys.executable, "-c", code, "m"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (
            result.returncode,
            "was written anew while this step ran" in result.stderr + result.stdout,
        ) == (returncode, returncode == 1)


@pytest.mark.parametrize(
    "command",
    [
        ["export", "ultralytics", "rtx-ada/fp16", "--out", "params.yaml/x"],
        ["calibration", "export", MODEL, "--tensorrt", "8.6.0", "--out", "tests"],
    ],
)
def test_a_path_that_cannot_be_written_is_one_line(built: Checkout, command: list[str]) -> None:
    (built.root / "tests").mkdir()
    change_manifest(built.root / "artifacts/engines" / MODEL / "rtx-ada/fp16", runtime="tensorrt")
    result = built.run("enginery", *command)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert "Correct the path or its rights, then run again" in result.stderr
