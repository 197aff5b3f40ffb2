"""A params.yaml that would never end, and inputs that DVC cannot read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from enginery.errors import ConfigError, DataError
from enginery.pipeline import Pipeline
from enginery.project.load import load_spec
from enginery.system.files import sha256
from tests.conftest import ROOT, Checkout
from tests.inputs.common import BAD, WEIGHTS, folder_with
from tests.test_flow import build, counted, refused
from tests.test_trouble import MODEL, own_images


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)
    ]
    return "\n".join(lines)


def merging(levels: int) -> str:
    lines = ["a0: &a0 {x0: 1, y0: 2}"]
    lines += [
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], x{n}: 1}}" for n in range(1, levels)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(12), "its aliases"),
        (merging(12), "its aliases"),
        ("a: &a [*a]", "its aliases"),
        ("[" * 1_500, "nested too deeply"),
    ],
)
def test_yaml_that_would_never_end(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_spec(tmp_path / "params.yaml")


def test_aliases_that_mean_something_are_read(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("rtx-ampere: { runtime", "rtx-ampere: &target { runtime")
    text = text.replace(
        "rtx-ada: { runtime: tensorrt_rtx, compute", "rtx-ada: { <<: *target, compute"
    )
    (tmp_path / "params.yaml").write_text(text)
    assert load_spec(tmp_path / "params.yaml") == load_spec(ROOT / "params.yaml")


def test_params_that_are_no_plain_file(tmp_path: Path) -> None:
    for make in (os.mkfifo, Path.mkdir):
        make(tmp_path / "params.yaml")
        with pytest.raises(ConfigError, match=r"params\.yaml is no plain file"):
            load_spec(tmp_path / "params.yaml")
        path = tmp_path / "params.yaml"
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def linked_images(folder: Path) -> str:
    (folder / "images").rename(folder.parent / "elsewhere")
    (folder / "images").symlink_to("../elsewhere")
    return f"data/own/images is a link to the folder {folder.parent.resolve()}/elsewhere: DVC does not look behind it"


def piped_label(folder: Path) -> str:
    linked = folder / "images"
    linked.unlink()
    (folder.parent / "elsewhere").rename(linked)
    label = sorted((folder / "labels").iterdir())[0]
    label.unlink()
    os.mkfifo(label)
    return f"data/own/labels/{label.name} is a named pipe. Remove it: only files are read"


def test_inputs_that_dvc_cannot_read_fail_their_model_at_once(built: Checkout) -> None:
    """DVC would find all up to date behind the link, and wait for ever on the pipe."""
    folder = own_images(built)
    for harm in (linked_images, piped_label):
        words = harm(folder)
        began = time.monotonic()
        refused(built, words)
        by_hand = built.run("dvc", "repro", "--keep-going", f"images@{MODEL}")
        assert time.monotonic() - began < 120
        assert by_hand.returncode != 0
        assert words in by_hand.stderr, by_hand.stderr
        assert built.run("enginery", "verify").returncode == 0


def test_a_wrong_digest_fails_the_export_and_a_right_one_makes_nothing_stale(
    built: Checkout,
) -> None:
    def given(digest: str) -> None:
        built.change(lambda params: params["models"][MODEL].update(sha256=digest))

    given("0" * 64)
    refused(
        built,
        f"yolov8n-shapes.pt has the SHA-256 {sha256(WEIGHTS)}, and params.yaml says {'0' * 64}",
    )
    assert built.run("enginery", "verify").returncode == 0
    given(sha256(WEIGHTS))
    states = build(built)
    assert counted(states, "Completed") == {"fingerprint"}
    assert counted(states, "Restored") == {f"export {MODEL}"}


def test_dvc_is_not_asked_about_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not look behind the link, and would wait for ever on the pipe and the device."""
    folder = folder_with(tmp_path, lambda path: None)
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], check=True)
    Path("dvc.yaml").write_text(
        "stages:\n  list:\n    cmd: ls own > listed\n    deps: [own]\n    outs: [listed]\n"
    )
    pipeline = Pipeline()
    assert "listed" in pipeline.stale("list")
    for kind in ("folder", "pipe", "device", "dangling", "name"):
        make, words = BAD[kind]
        make(folder / "images/x.png")
        with pytest.raises(DataError, match=words):
            pipeline.stale("list")
        for path in folder.glob("images/[!1]*"):
            path.unlink()
    assert "listed" in pipeline.stale("list")
