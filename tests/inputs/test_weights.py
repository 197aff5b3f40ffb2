"""Weights run no code, and have the digest that is given; steps get no credentials."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enginery.errors import ConfigError, ModelError
from enginery.project.load import load_spec
from enginery.sources.export import ExportSettings, export
from enginery.system.environment import allowed
from enginery.system.files import sha256
from enginery.toolchain.process import Child
from tests.inputs.common import TINY, WEIGHTS
from tests.test_spec import write


class Commanding:
    """Its pickle runs a command when it is loaded."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"env > '{self.out}'",)


def checkpoint(out: Path, legacy: bool = False, **more: Any) -> Path:
    import torch

    kept = torch.load(WEIGHTS, weights_only=False)
    torch.save({**kept, **more}, out, _use_new_zipfile_serialization=not legacy)
    return out


def test_weights_do_not_run_code_unless_they_are_trusted(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    weights = checkpoint(tmp_path / "evil.pt", evil=Commanding(ran))
    with pytest.raises(
        ModelError, match=r"evil\.pt is not loaded: it holds posix\.system, .* add `trusted: true`"
    ):
        export(weights, TINY, tmp_path / "out.onnx")
    assert not ran.exists()
    trusted = ExportSettings("detect", (64, 64), 1, False, 17, trusted=True)
    export(weights, trusted, tmp_path / "out.onnx")
    assert ran.exists()
    ran.unlink()
    with pytest.raises(ModelError, match="is not loaded"):  # the trust was of that one export
        export(weights, TINY, tmp_path / "out.onnx")
    assert not ran.exists()


def test_neither_an_old_format_nor_a_bare_pickle_runs_code(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    checkpoint(tmp_path / "old.pt", legacy=True, evil=Commanding(ran))
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Commanding(ran)))
    for name in ("old.pt", "bare.pt"):
        with pytest.raises(ModelError, match=name):
            export(tmp_path / name, TINY, tmp_path / "out.onnx")
    assert not ran.exists()


def test_weights_that_classify_bring_torchvisions_transforms(tmp_path: Path) -> None:
    from enginery.sources.ultralytics_compat import import_torchvision, silence
    from tests.tiny import write_model

    transforms = import_torchvision().transforms
    from ultralytics import YOLO

    settings = ExportSettings("classify", (64, 64), 1, False, 17)
    with silence():
        model = YOLO(str(write_model("classify", tmp_path / "model.pt")))
    model.model.transforms = transforms.Compose([transforms.Resize(64), transforms.ToTensor()])
    model.save(str(tmp_path / "trained.pt"))
    export(tmp_path / "trained.pt", settings, tmp_path / "out.onnx")
    model.model.transforms = transforms.Compose([transforms.RandomHorizontalFlip()])
    model.save(str(tmp_path / "odd.pt"))
    with pytest.raises(
        ModelError, match=r"it holds torchvision\.transforms\.transforms\.RandomHorizontalFlip"
    ):
        export(tmp_path / "odd.pt", settings, tmp_path / "out.onnx")


def test_a_source_has_the_digest_that_is_given_or_is_not_read(tmp_path: Path) -> None:
    right = sha256(WEIGHTS)
    export(
        WEIGHTS,
        ExportSettings("detect", (64, 64), 1, False, 17, sha256=right),
        tmp_path / "out.onnx",
    )
    (tmp_path / "any.pt").write_bytes(b"never parsed")
    found = sha256(tmp_path / "any.pt")
    with pytest.raises(
        ModelError, match=rf"any\.pt has the SHA-256 {found}, and params\.yaml says {right}"
    ):
        export(
            tmp_path / "any.pt",
            ExportSettings("detect", (64, 64), 1, False, 17, sha256=right),
            tmp_path / "out.onnx",
        )


def test_digests_and_trust_in_params(tmp_path: Path) -> None:
    model = "models__yolov8n-shapes__"
    digest = sha256(WEIGHTS)
    spec = load_spec(write(tmp_path, **{f"{model}sha256": digest.upper(), f"{model}trusted": True}))
    assert spec.models["yolov8n-shapes"].sha256 == digest
    assert spec.models["yolov8n-shapes"].trusted
    for key, value, words in (
        ("sha256", "abc", r"models\.yolov8n-shapes\.sha256: 'abc'"),
        ("source", "model.onnx", r"models\.yolov8n-shapes\.trusted: true: an \.onnx runs no code"),
    ):
        changes = {f"{model}trusted": True, f"{model}{key}": value}
        with pytest.raises(ConfigError, match=words):
            load_spec(write(tmp_path, **changes))


SECRETS = (
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "PREFECT_API_KEY",
    "SSH_AUTH_SOCK",
    "HTTPS_PROXY",
    "https_proxy",
    "NVIDIA_API_KEY",
    "ULTRALYTICS_API_KEY",
    "ENGINERY_TOKEN",
    "DVC_STUDIO_TOKEN",
    "PIP_INDEX_URL",
    "PGPASSWORD",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_STORAGE_CONNECTION_STRING",
    "DATABASE_URL",
)
NEEDED = (
    "PATH",
    "HOME",
    "LC_ALL",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "PYTHONPATH",
    "ENGINERY_REPORT",
)


def test_the_environment_of_steps_has_no_credentials() -> None:
    assert set(allowed(dict.fromkeys([*SECRETS, *NEEDED], "x"))) == set(NEEDED)


def test_a_toolchains_child_gets_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > '{tmp_path}/env'\nexec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    for name in SECRETS:
        monkeypatch.setenv(name, "hidden")
    Child(
        python, {"do": "probe", "runtime": "tensorrt_rtx", "gpu": "3"}, lambda event: None
    ).result(60)
    seen = (tmp_path / "env").read_text()
    assert "hidden" not in seen
    assert "CUDA_VISIBLE_DEVICES=3\n" in seen
    assert "PATH=" in seen
