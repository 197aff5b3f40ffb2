"""What users give: weights that would run code, sources that are not the one named, links, pipes,
images and graphs of bad kinds.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from enginery.calibration import cache
from enginery.errors import ConfigError, DataError, ModelError
from enginery.evaluation.validation import compare
from enginery.pipeline import Pipeline
from enginery.project.inputs import check_plain, plain_files
from enginery.project.load import load_spec
from enginery.sources.export import ExportSettings, export
from enginery.system.environment import allowed
from enginery.system.files import sha256, sha256_tree
from enginery.toolchain.process import Child
from enginery.vision.images import list_images, read_image
from enginery.vision.labels import check_format
from enginery.vision.tasks import TaskMetadata
from tests.conftest import ROOT, Checkout
from tests.test_flow import build, counted, refused
from tests.test_spec import write
from tests.test_trouble import MODEL, own_images

WEIGHTS = ROOT / "data/demo/yolov8n-shapes.pt"
TINY = ExportSettings("detect", (64, 64), 1, False, 17)


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


def folder_with(tmp_path: Path, make: Callable[[Path], object]) -> Path:
    folder = tmp_path / "own"
    (folder / "images").mkdir(parents=True)
    (folder / "images/1.png").write_bytes(picture(20))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/2.png").write_bytes(picture(20))
    make(folder / "images/x.png")
    return folder


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


BAD = {
    "pipe": (os.mkfifo, "x.png is a named pipe. Remove it: only files are read"),
    "socket": (socket_at, "x.png is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "x.png is a device"),
    "dangling": (
        lambda path: path.symlink_to("nowhere"),
        "x.png is a link to nowhere, which leads nowhere",
    ),
    "itself": (
        lambda path: path.symlink_to(path.name),
        "x.png is a link to x.png, which leads nowhere",
    ),
    "folder": (
        lambda path: path.symlink_to("../../elsewhere"),
        "x.png is a link to the folder .*/elsewhere: DVC does not look behind",
    ),
    "loop": (
        lambda path: path.symlink_to(".."),
        "x.png is a link to the folder .*/own: DVC does not look behind it",
    ),
    "name": (
        lambda path: path.with_name(os.fsdecode(b"caf\xe9.png")).touch(),
        r"caf\\xe9\.png: its name is not UTF-8",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_plain_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    make, words = BAD[kind]
    folder = folder_with(tmp_path, make)
    for read in (check_plain, sha256_tree, lambda folder: list_images(folder, "detect")):
        with pytest.raises(DataError, match=words) as error:
            read(folder)
        str(error.value).encode()  # can be printed


def test_a_cache_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "own.cache")
    with pytest.raises(DataError, match=r"own\.cache is a named pipe"):
        cache.read(tmp_path / "own.cache")


def test_files_behind_links_count_and_what_is_missing_does_not(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, lambda path: path.symlink_to("../../elsewhere/2.png"))
    (tmp_path / "link").symlink_to(folder)
    before = sha256_tree(tmp_path / "link")
    assert before == sha256_tree(folder)
    (tmp_path / "elsewhere/2.png").write_bytes(b"other")
    assert sha256_tree(folder) != before
    assert list(plain_files(tmp_path / "nowhere")) == []
    assert list(plain_files(WEIGHTS)) == [WEIGHTS]
    with pytest.raises(DataError, match="is a device"):
        check_plain(Path("/dev/null"))


def test_a_folder_with_the_name_of_an_image_or_of_labels(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, Path.mkdir)
    with pytest.raises(DataError, match=r"x\.png is a folder with the name of an image"):
        list_images(folder, "detect")
    (folder / "labels/1.txt").mkdir(parents=True)
    (folder / "labels/2.txt").touch()
    with pytest.raises(DataError, match=r"1\.txt is no file"):
        check_format([folder / "images/1.png", folder / "images/2.png"], "detect")


def picture(side: int) -> bytes:
    """A black square PNG of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packed = zlib.compressobj(1)
    body = (
        b"".join(packed.compress(bytes(1 + (side + 7) // 8)) for _ in range(side)) + packed.flush()
    )
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def test_an_image_that_is_too_large_for_opencv(tmp_path: Path) -> None:
    (tmp_path / "vast.png").write_bytes(picture(40_000))
    with pytest.raises(
        DataError,
        match=r"vast\.png cannot be read as an image: it has more pixels than OpenCV reads",
    ):
        read_image(tmp_path / "vast.png")
    (tmp_path / "small.png").write_bytes(picture(20))
    assert read_image(tmp_path / "small.png").shape == (20, 20, 3)


def graph(edit: Callable[[onnx.ModelProto], object] = lambda model: None) -> onnx.ModelProto:
    """One convolution, which `edit` changes."""
    kernel = helper.make_tensor("kernel", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 2.0, 3.0])
    value = helper.make_tensor_value_info
    sizes = [1, 3, 64, 64]
    body = helper.make_graph(
        [helper.make_node("Conv", ["image", "kernel"], ["out"], "conv")],
        "graph",
        [value("image", TensorProto.FLOAT, sizes)],
        [value("out", TensorProto.FLOAT, [1, 1, 64, 64])],
        [kernel],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    edit(model)
    return model


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def add_node(*arguments: Any, **more: Any) -> Callable[[onnx.ModelProto], object]:
    return lambda model: model.graph.node.append(helper.make_node(*arguments, **more))


def add_metadata(key: str, value: str) -> Callable[[onnx.ModelProto], object]:
    return lambda model: model.metadata_props.add(key=key, value=value)


def break_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].float_data[1] = float("nan")


def flatten_input(model: onnx.ModelProto) -> None:
    del model.graph.input[0].type.tensor_type.shape.dim[1:]
    model.graph.node[0].CopyFrom(helper.make_node("Identity", ["image"], ["out"]))
    del model.graph.output[0].type.tensor_type.shape.dim[1:]
    del model.graph.initializer[:]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            add_input,
            r"own\.onnx has 2 inputs \(image, mask\), and images are fed to a graph with one",
        ),
        (
            flatten_input,
            r"own\.onnx: its input image has the shape \[1\], not batch, 3, height, width",
        ),
        (lambda model: model.graph.output.pop(), r"own\.onnx .*output"),
        (break_weights, r"own\.onnx has weights that are NaN, in 1 tensors: kernel"),
        (
            add_node("", [], []),
            r"own\.onnx has operators that are not part of ONNX: an empty operator \(node without a name\)",
        ),
        (add_node("", [], [], name="last"), r"an empty operator \(node last\)"),
        (
            add_node("Fancy", ["out"], ["more"], domain="com.example"),
            r"com\.example\.Fancy \(node more\)",
        ),
        (
            add_metadata("names", "[" * 100_000),
            r"own\.onnx: its metadata `names`, `stride` or `kpt_shape` is not as",
        ),
        (add_metadata("names", "-" * 200_000 + "1"), r"own\.onnx: its metadata `names`"),
        (add_metadata("stride", "0"), r"own\.onnx: its metadata `names`, `stride`"),
    ],
    ids=[
        "inputs",
        "axis",
        "outputs",
        "nan",
        "nameless",
        "operator",
        "domain",
        "brackets",
        "minuses",
        "stride",
    ],
)
def test_graphs_that_cannot_work_are_refused_by_name(
    tmp_path: Path, edit: Callable[[onnx.ModelProto], object], words: str
) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(graph().SerializeToString())
    export(path, TINY, tmp_path / "out.onnx")
    path.write_bytes(graph(edit).SerializeToString())
    with pytest.raises(ModelError, match=words):
        export(path, TINY, tmp_path / "out.onnx")


def test_an_original_that_gives_no_numbers_is_said_with_the_image(tmp_path: Path) -> None:
    from enginery.demo.dataset import write_dataset

    class Broken:
        size = (64, 64)
        begun = 0

        def begin(self, image: Any, pool: Any) -> Callable[[], list[Any]]:
            self.begun += 1
            value = np.inf if self.begun == 2 else 0
            return lambda: [np.full((1, 4 + 7, 84), value, np.float32)]

    write_dataset(tmp_path, range(3), 64)
    names = {index: str(index) for index in range(7)}
    second = list_images(tmp_path, "detect")[1]
    with pytest.raises(
        ModelError, match=f"the original itself gives NaN or infinite values for {second}"
    ):
        compare(
            Broken(), Broken(), tmp_path, TaskMetadata("detect", names), lambda done, total: None
        )


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
