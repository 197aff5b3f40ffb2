"""The bad inputs: what each does to a checkout, what must be said, and what must go on.

The checkout has two models, `good` and `own`, built for two targets as fp16 and int8. Harm comes to
`own`, to the target rtx-ada, or to the whole. A plan of good for rtx-ampere is always missing: a
run has something to restore.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.trouble import models
from benchmarks.trouble.checkouts import Params, Place

After = Literal["others", "nothing", "whole", "same plans", "kept", "any"]
GOOD, OWN = "good", "own"
SIDE = 96
IMAGE = "data/own/validation/images/000003.jpg"
LABEL = "data/own/validation/labels/000003.txt"
CALIBRATION = "data/own/calibration/000013.jpg"
GRAPH = "data/own/model.onnx"
WEIGHTS = "data/own/model.pt"
ENGINE = "artifacts/engines/own/rtx-ada/fp16"
MARK = "a-pickle-ran"
CONFLICT = "<<<<<<< HEAD\n{0}=======\n{0}>>>>>>> theirs\n"
SHORT_LIMIT_S = 8


@dataclass(frozen=True)
class Case:
    """One bad input.

    `says` is what one line of the output must match. `after` is what must hold then:
    others: own's (or rtx-ada's) steps failed, nothing of them was registered, the rest was built.
    nothing: nothing was started. kept: the registry is as it was. whole: all is mended, and right.
    same plans: only manifests may differ, as they name another source.
    `row` is the issue's; `code` None allows 0 and 1.
    """

    name: str
    harm: Callable[[Place], object]
    says: str
    row: int = 0
    after: After = "others"
    command: tuple[str, ...] = ("build",)
    code: int | None = 1
    variables: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Place], str] = lambda place: ""
    limit_s: float = 20


def on(name: str, damage: Callable[[Path], object]) -> Callable[[Place], None]:
    """Harm that comes to one file, which may be changed where it lies."""

    def harm(place: Place) -> None:
        place.write(name, (place.root / name).read_bytes())
        damage(place.root / name)

    return harm


def cut(path: Path) -> None:
    """Half of a file is lost."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """A file without a byte."""
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    """Text where there should be something else."""
    path.write_text("what is this?\n")


def binary(path: Path) -> None:
    """Bytes that are no text."""
    path.write_bytes(bytes(range(256)) * 8)


def overwritten(path: Path) -> None:
    """2,000 bytes in the middle are 0xFF."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = b"\xff" * 2000
    path.write_bytes(data)


def flipped(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def conflict(path: Path) -> None:
    """What a merge leaves behind."""
    path.write_text(CONFLICT.format(path.read_text()))


def half_conflict(path: Path) -> None:
    """A merge's markers around some lines in the middle."""
    lines = path.read_text().splitlines(keepends=True)
    middle = len(lines) // 2
    path.write_text(
        "".join([*lines[:middle], CONFLICT.format(lines[middle]), *lines[middle + 1 :]])
    )


def gone(path: Path) -> None:
    """No file."""
    path.unlink()


def folder(path: Path) -> None:
    """A folder of its name."""
    path.unlink()
    path.mkdir()
    (path / "inside").write_text("x")


def fifo(path: Path) -> None:
    """A pipe that nobody writes into: reading waits for ever."""
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    """A link to nothing."""
    path.unlink()
    path.symlink_to("nowhere")


def looping(path: Path) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def set_own(**values: Any) -> Callable[[Place], None]:
    """Change models.own."""
    return lambda place: place.change(lambda params: params["models"][OWN].update(values))


def set_int8(**values: Any) -> Callable[[Place], None]:
    """Change int8.own."""
    return lambda place: place.change(lambda params: params["int8"][OWN].update(values))


def set_matrix(**values: Any) -> Callable[[Place], None]:
    """Change the matrix."""
    return lambda place: place.change(lambda params: params["matrix"].update(values))


def text(content: str | bytes, name: str = "params.yaml") -> Callable[[Place], None]:
    """Another content of a file."""

    def harm(place: Place) -> None:
        place.write(name, content)

    return harm


def weights(
    content: bytes | None = None, damage: Callable[[Path], object] | None = None
) -> Callable[[Place], None]:
    """own comes from a .pt."""

    def harm(place: Place) -> None:
        place.write(
            WEIGHTS,
            content if content is not None else (place.root / "data/good/model.pt").read_bytes(),
        )
        if damage:
            damage(place.root / WEIGHTS)
        set_own(source=WEIGHTS)(place)

    return harm


def commanding(place: Place) -> None:
    """A pickle that runs a command, and would take the environment with it."""
    line = f"env > '{place.folder / MARK}'"
    weights(models.commanding_weights(line))(place)


def networkless(place: Place) -> None:
    """A checkpoint that holds no network."""
    weights(models.networkless_weights())(place)


def nothing_ran(place: Place) -> str:
    """Whether a pickle's command was run."""
    return f"the pickle's command was run ({MARK})" if (place.folder / MARK).exists() else ""


def picture(width: int, height: int) -> bytes:
    """A black PNG of one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    pack = zlib.compressobj(1)
    line = bytes(1 + (width + 7) // 8)
    body = b"".join(
        [
            *(pack.compress(line * 100) for _ in range(height // 100)),
            pack.compress(line * (height % 100)),
        ]
    )
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", body + pack.flush())
        + chunk(b"IEND", b"")
    )


def add_image(name: str | bytes, content: Callable[[], bytes]) -> Callable[[Place], None]:
    """One more validation image of own."""

    def harm(place: Place) -> None:
        folder = place.root / "data/own/validation/images"
        (folder / os.fsdecode(name)).write_bytes(content())

    return harm


def not_utf8(place: Place) -> None:
    """An image whose name is Latin-1."""
    add_image(b"caf\xe9.jpg", (place.root / IMAGE).read_bytes)(place)


def without(name: str) -> Callable[[Place], None]:
    """A folder without its files."""

    def harm(place: Place) -> None:
        place.remove(name)
        (place.root / name).mkdir()

    return harm


def same_images(place: Place) -> None:
    """Calibrated with what it is validated with."""
    place.write(CALIBRATION, (place.root / IMAGE).read_bytes())


def linked_folder(place: Place) -> None:
    """Validation images elsewhere, behind a link; one of them changes, and its metric with it."""
    images = place.root / "data/own/validation/images"
    images.rename(place.folder / "elsewhere")
    images.symlink_to(place.folder / "elsewhere")
    (place.folder / "elsewhere/000003.jpg").write_bytes(
        (place.folder / "elsewhere/000002.jpg").read_bytes()
    )


def alias_bomb(place: Place) -> None:
    """Nine levels of nine: a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    old = (place.root / "params.yaml").read_text()
    place.write("params.yaml", "\n".join(lines) + "\n" + old + "demo: *a9\n")


def tabs(place: Place) -> None:
    """Indented with tabs."""
    old = (place.root / "params.yaml").read_text()
    place.write("params.yaml", old.replace("\n  ", "\n\t"))


def stage_without_key(place: Place) -> None:
    """dvc.yaml has the demo's stage, params.yaml has no demo."""
    stage = (
        "  demo-data:\n    cmd: .venv/bin/python -m tasks.demo_data\n"
        "    deps: [artifacts/recipes/demo-data/recipe.json]\n    outs: [data/demo/validation]\n"
    )
    place.write("dvc.yaml", (place.root / "dvc.yaml").read_text() + stage)


def key_without_stage(place: Place) -> None:
    """params.yaml has the demo, dvc.yaml has no stage for it."""
    place.change(
        lambda params: params.update(demo={"validation_images": 4, "calibration_images": 4})
    )


def toolchain(*lines: str, mode: int = 0o755) -> Callable[[Place], None]:
    """The interpreter of rtx-ada is a script of these lines; none: it is missing."""

    def edit(params: Params) -> None:
        params["toolchains"] = {"bad": {"python": ".toolchains/bad/bin/python"}}
        params["targets"]["rtx-ada"]["toolchain"] = "bad"

    def harm(place: Place) -> None:
        place.change(edit)
        if lines:
            place.write(".toolchains/bad/bin/python", "\n".join(lines) + "\n").chmod(mode)

    return harm


def broken_import(place: Place) -> None:
    """A TensorRT-RTX that cannot be imported."""
    broken = place.root / ".toolchains/broken/tensorrt_rtx"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(
        "raise ImportError('libnvinfer.so.10: cannot open shared object file')\n"
    )
    python = place.root / ".venv/bin/python"
    toolchain("#!/bin/sh", f'PYTHONPATH="{broken.parent}" exec "{python}" "$@"')(place)


def remote(url: str) -> Callable[[Place], None]:
    """A DVC remote, and a plan that is not in the checkout."""

    def harm(place: Place) -> None:
        config = (place.root / ".dvc/config").read_text()
        assert config.startswith("[core]\n")
        config = config.replace("[core]\n", "[core]\n    remote = far\n", 1)
        place.write(".dvc/config", f"{config}['remote \"far\"']\n    url = {url}\n")

    return harm


def plan_of(name: str) -> Callable[[Place], Path]:
    """The object in DVC's cache that is a file of the checkout."""

    def find(place: Place) -> Path:
        import hashlib

        digest = hashlib.md5((place.root / name).read_bytes(), usedforsecurity=False).hexdigest()
        return place.root / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}"

    return find


def flipped_object(place: Place) -> None:
    """A bit of a plan flips in DVC's cache, and the plan itself is lost."""
    plan = "artifacts/build/own/rtx-ada/fp16/model.plan"
    path = plan_of(plan)(place).relative_to(place.root)
    data = bytearray((place.root / path).read_bytes())
    data[len(data) // 2] ^= 1
    place.write(str(path), bytes(data)).chmod(0o444)
    place.remove(plan)


def lost_object(place: Place) -> None:
    """A plan is lost in DVC's cache and in the checkout."""
    plan = "artifacts/build/own/rtx-ada/fp16/model.plan"
    path = plan_of(plan)(place)
    place.remove(plan)
    path.unlink()


def forged(place: Place) -> None:
    """A plan and its manifest are edited together."""
    import hashlib
    import json

    data = (place.root / ENGINE / "model.plan").read_bytes()[:-1] + b"\0"
    manifest = json.loads((place.root / ENGINE / "manifest.json").read_text())
    manifest["plan"].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    place.write(f"{ENGINE}/model.plan", data)
    place.write(f"{ENGINE}/manifest.json", json.dumps(manifest, indent=2, sort_keys=True))


def report(content: Callable[[str], str]) -> Callable[[Place], None]:
    """A report as if own's engine had run on its GPU; `content` is made of the plan's digest."""

    def harm(place: Place) -> None:
        import hashlib

        digest = hashlib.sha256((place.root / ENGINE / "model.plan").read_bytes()).hexdigest()
        place.write("artifacts/reports/own/rtx-ada/fp16.json", content(digest))

    return harm


def cache(edit: Callable[[list[str]], list[str]]) -> Callable[[Place], None]:
    """A calibration cache made of own's, as data/own.cache."""

    def harm(place: Place) -> None:
        lines = (
            (place.root / "artifacts/models/own/calibration/calibration.cache")
            .read_text()
            .splitlines()
        )
        place.write("data/own.cache", "\n".join(edit(lines)) + "\n")

    return harm


def and_used(harm: Callable[[Place], object]) -> Callable[[Place], None]:
    """The cache is what params.yaml names."""
    named = {"calibration": "data/own.cache", "rule": "yolo-head-1"}

    def both(place: Place) -> None:
        harm(place)
        place.change(lambda params: params["int8"].update({OWN: named}))

    return both


def harmless(place: Place) -> None:
    """Nothing: the command itself is the bad input."""


def _not_validated(place: Place) -> str:
    listed = place.run("list", "--json", limit=60)
    return "the engine is listed as validated" if '"validated"' in listed.text else ""


def _lists_well(place: Place) -> str:
    listed = place.run("list", limit=60)
    return (
        ""
        if listed.code == 0 and "damaged" not in listed.text
        else f"list afterwards: {listed.last()}"
    )


def _verifies(place: Place) -> str:
    verified = place.run("verify", limit=60)
    return "" if verified.code == 0 else f"verify afterwards: {verified.last()}"


def cases() -> Iterator[Case]:
    """All of them."""
    yield from _graphs()
    yield from _weights()
    yield from _images()
    yield from _labels()
    yield from _params()
    yield from _toolchains()
    yield from _registry()
    yield from _dvc()
    yield from _caches()
    yield from _commands()


def _graphs() -> Iterator[Case]:
    def graph(
        name: str, damage: Callable[[Path], object], says: str, row: int = 0, **more: Any
    ) -> Case:
        return Case(f"onnx: {name}", on(GRAPH, damage), says, row, **more)

    this = r"data/own/model\.onnx"
    yield graph("empty", empty, f"{this} is empty")
    yield graph("cut", cut, f"{this} .*(cut off|altered|not valid ONNX)")
    yield graph("overwritten in the middle", overwritten, f"{this}|(?i:nan|not finite)", 6)
    yield graph("text", garbage, f"{this} .*(no ONNX|not valid ONNX)")
    yield graph("missing", gone, this)
    yield graph("a folder", folder, this, 6)
    yield graph("a FIFO", fifo, f"{this}.*(plain file|regular file|FIFO|pipe)", 7)
    yield graph("a link to nothing", dangling, this, 6)
    yield graph("a link to itself", looping, f"{this}.*", 6)
    yield graph("a link to /dev/zero", endless, f"{this}.*(plain file|regular file|device)", 7)
    yield graph("opset 99", models.edited(models.newer_opset), f"{this} has opset 99")
    yield graph("float64 input", models.edited(models.float64_input), f"{this}.*float64")
    yield graph("unknown operator", models.edited(models.unknown_operator), f"{this}.*Fancy")
    yield graph(
        "operator of a foreign domain",
        models.edited(models.foreign_operator),
        f"{this}.*(Fancy|com\\.example)",
        6,
    )
    yield graph(
        "nameless operator", models.edited(models.nameless_operator), f"{this}.*operator", 6
    )
    yield graph(
        "two inputs",
        models.edited(models.second_input),
        f"{this}.*(2|two|second|more than one|one) .*input",
        6,
    )
    yield graph(
        "input of one axis",
        models.edited(models.flat_input),
        f"{this}.*(input|axis|sizes|shape)",
        6,
    )
    yield graph(
        "NaN weights", models.edited(models.nan_weights), "(?i)(nan|not finite|no number)", 6
    )
    yield graph(
        "infinite weights", models.edited(models.infinite_weights), "(?i)(inf|not finite)", 6
    )
    yield graph("external data missing", models.external_missing, r"weights\.bin", 7)
    yield graph("external data cut", models.external_cut, r"weights\.bin", 7)
    yield graph("external data outside of its folder", models.external_outside, r"weights\.bin", 7)
    yield graph(
        "external data beside it works",
        models.external,
        "",
        7,
        after="same plans",
        code=0,
        limit_s=60,
    )
    yield graph("no outputs", models.edited(models.without_outputs), f"{this}.*output", 6)
    yield graph("a circle", models.edited(models.in_circles), f"{this} is not valid ONNX")
    yield graph("weights of a terabyte", models.edited(models.huge_weights), this)
    yield graph("deep metadata", models.edited(models.nested), f"{this}.*metadata", 7)
    yield graph(
        "names not numbered from 0",
        models.edited(models.metadata("names", "{1: 'a', 2: 'b'}")),
        f"{this}.*names",
    )
    yield graph(
        "names that are text", models.edited(models.metadata("names", "a, b")), f"{this}.*names"
    )
    yield graph(
        "a stride of 0", models.edited(models.metadata("stride", "0")), f"{this}.*stride", 6
    )
    yield graph(
        "another task",
        models.edited(models.metadata("task", "segment")),
        "is a segment model, not detect",
    )
    endless_loop = on(GRAPH, models.edited(models.loop(1 << 40)))

    def limited(place: Place) -> None:
        endless_loop(place)
        limits = dict.fromkeys(("export", "simplify"), SHORT_LIMIT_S)
        place.change(lambda params: params.update(time_limit_s=limits))

    yield Case("onnx: a loop of 2^40 turns", limited, "(?i)time limit", 7, limit_s=40)
    yield Case("onnx: not the size of params.yaml", set_own(height=128), r"own.*(fixed size|96)", 6)
    yield Case(
        "onnx: an opset that it does not use",
        set_own(opset=17),
        r"models\.own\.opset",
        14,
        after="nothing",
    )
    yield Case(
        "onnx: a source that is a .txt",
        set_own(source="data/own/model.txt"),
        r"models\.own\.source",
        after="nothing",
    )


def _weights() -> Iterator[Case]:
    this = r"data/own/model\.pt"
    yield Case("pt: cut", weights(damage=cut), this)
    yield Case("pt: empty", weights(b""), this)
    yield Case("pt: text", weights(b"no model"), this)
    yield Case("pt: missing", weights(damage=gone), this)
    yield Case("pt: a folder", weights(damage=folder), this, 6)
    yield Case(
        "pt: a FIFO", weights(damage=fifo), f"{this}.*(plain file|regular file|FIFO|pipe)", 7
    )
    yield Case("pt: tensors without a network", networkless, this)
    yield Case("pt: a pickle that runs a command", commanding, f"{this}.*", 2, check=nothing_ran)

    def of_another_task(place: Place) -> None:
        weights()(place)
        set_own(task="segment")(place)

    def of_another_digest(place: Place) -> None:
        weights()(place)
        set_own(sha256="0" * 64)(place)

    yield Case(
        "pt: of another task",
        of_another_task,
        f"({this} is a detect model, not segment|labels/.*is not)",
    )
    yield Case(
        "pt: not the sha256 of params.yaml", of_another_digest, f"{this}.*(?i:sha256|digest)", 2
    )


def _images() -> Iterator[Case]:
    def image(name: str, damage: Callable[[Path], object], says: str, row: int = 0) -> Case:
        return Case(f"image: {name}", on(IMAGE, damage), says, row)

    this = r"000003\.jpg"
    yield image("a FIFO", fifo, f"{this}.*(plain file|regular file|FIFO|pipe)", 7)
    yield image("a folder", folder, f"{this}", 6)
    yield image("truncated", cut, this)
    yield image("no bytes", empty, this)
    yield image("text", garbage, this)
    yield image("a link to nothing", dangling, this, 6)
    yield image("a link to itself", looping, this, 6)
    yield image("a link to /dev/zero", endless, f"{this}.*(plain file|regular file|device)", 7)
    yield Case("image: 1x1", add_image("tiny.png", lambda: picture(1, 1)), r"tiny\.png.*pixels")
    yield Case(
        "image: 40,000 x 40,000",
        add_image("vast.png", lambda: picture(40_000, 40_000)),
        r"vast\.png",
        6,
    )
    yield Case("image: a name that is not UTF-8", not_utf8, r"caf.*\.jpg|(?i:utf-8)", 6)
    yield Case(
        "image: none", without("data/own/validation/images"), "data/own/validation.*holds no images"
    )
    yield Case("image: no such folder", set_own(validation="data/own/nowhere"), "data/own/nowhere")
    yield Case(
        "image: too few to calibrate", set_int8(minimum_images=5), "holds 4 images.*minimum_images"
    )
    yield Case("image: calibration is validation", same_images, "validation images too")
    calibrates = f"{CALIBRATION.rsplit('/', 1)[1]}"
    yield Case(
        "image: calibration has a FIFO",
        on(CALIBRATION, fifo),
        f"{calibrates}.*(plain file|regular file|FIFO|pipe)",
        7,
    )
    yield Case("image: calibration has one of no bytes", on(CALIBRATION, empty), calibrates, 6)
    yield Case("image: calibration has a folder x.jpg", on(CALIBRATION, folder), calibrates, 6)

    def changed_behind_a_link(place: Place) -> None:
        linked_folder(place)

    yield Case(
        "image: changed behind a link",
        changed_behind_a_link,
        "(?i)(link|images).*",
        4,
        after="any",
        code=None,
        check=_noticed,
    )


def _noticed(place: Place) -> str:
    """Own's list of images is of the images as they are, or a run refused the link by its name."""
    import hashlib
    import json

    listed = json.loads((place.root / "artifacts/models/own/images.json").read_text())["images"]
    now = hashlib.sha256((place.folder / "elsewhere/000003.jpg").read_bytes()).hexdigest()
    refused = place.run("build", limit=60)
    return (
        ""
        if listed.get("images/000003.jpg") == now or "link" in refused.text
        else "the changed image was not noticed"
    )


def _labels() -> Iterator[Case]:
    def label(name: str, content: str | bytes, says: str = r"labels/000003\.txt, line 1") -> Case:
        return Case(f"label: {name}", text(content, LABEL), says)

    yield label("no numbers", "first second third fourth fifth\n")
    yield label("four values", "0 0.5 0.5 0.1\n")
    yield label("outside of the image", "0 5.5 0.5 0.1 0.1\n")
    yield label("a negative size", "0 0.5 0.5 -0.1 0.1\n")
    yield label("NaN", "0 nan 0.5 0.1 0.1\n")
    yield label("bytes", bytes(range(128, 256)) + b"\n")
    yield label(
        "a class that the model has not",
        "77 0.5 0.5 0.1 0.1\n",
        r"000003\.jpg: its labels have class 77",
    )
    yield Case("label: a huge class", text(f"{10**30} 0.5 0.5 0.1 0.1\n", LABEL), r"000003", 6)
    yield Case("label: none at all", without("data/own/validation/labels"), "holds no labels")
    yield Case(
        "label: a FIFO", on(LABEL, fifo), r"000003\.txt.*(plain file|regular file|FIFO|pipe)", 7
    )
    yield Case("label: a folder", on(LABEL, folder), r"000003\.txt", 6)


def _params() -> Iterator[Case]:
    def params(name: str, harm: Callable[[Place], object], says: str, row: int = 0) -> Case:
        return Case(f"params: {name}", harm, says, row, after="nothing")

    def file(
        name: str, damage: Callable[[Path], object], says: str = r"params\.yaml", row: int = 0
    ) -> Case:
        return params(name, on("params.yaml", damage), says, row)

    yield params("an alias bomb", alias_bomb, r"params\.yaml", 7)
    yield params("tabs", tabs, r"params\.yaml|not readable as YAML.*line")
    yield params("an unknown key", set_own(colour="red"), r"models\.own\.colour: unknown key")
    yield params("a wrong type", set_own(height="tall"), r"models\.own\.height")
    yield params(
        "a list for a mapping", lambda place: place.change(lambda p: p.update(models=[1])), "models"
    )
    yield params("infinity", set_own(batch=float("inf")), r"models\.own\.batch")
    yield params("a huge number", set_own(height=2**70), r"models\.own\.height", 6)
    yield params(
        "an unknown target", set_matrix(targets=["rtx-ada", "moon"]), "matrix.targets.*moon"
    )
    yield params(
        "an unknown model", set_matrix(models=["good", "own", "moon"]), "matrix.models.*moon"
    )
    yield params("an unknown precision", set_matrix(precisions=["fp8"]), "matrix.precisions.*fp8")
    yield params("a bad pattern", set_int8(exclude=["("]), r"int8\.own\.exclude")
    yield file("a merge conflict", half_conflict, "not readable as YAML.*line")
    yield file("a FIFO", fifo, r"params\.yaml.*(plain file|regular file|FIFO|pipe)", 7)
    yield file("binary", binary, "not readable as YAML")
    yield file("a folder", folder)
    yield file("missing", gone, r"params\.yaml|no such file here")
    yield file("empty", empty)
    yield params("deeply nested", text("[" * 100_000), r"params\.yaml|not readable as YAML", 6)
    yield params("an anchor within itself", text("models: &a [*a]\n"), r"params\.yaml|models", 6)
    yield params(
        "a Python object", text("!!python/object/apply:os.system [true]\n"), "not readable as YAML"
    )
    yield params("latin-1", text("# caf\xe9\n".encode("latin-1")), "not readable as YAML")
    yield params("the demo's stage without its key", stage_without_key, r"demo", 17)
    yield params("the demo's key without its stage", key_without_stage, r"demo", 17)
    yield Case(
        "params: dvc.yaml is no YAML",
        on("dvc.yaml", half_conflict),
        r"dvc\.yaml",
        6,
        after="nothing",
    )
    yield Case(
        "params: dvc.yaml is missing", on("dvc.yaml", gone), r"dvc\.yaml", 6, after="nothing"
    )
    yield Case("params: dvc.yaml is empty", on("dvc.yaml", empty), r"dvc\.yaml", 6, after="nothing")


def _toolchains() -> Iterator[Case]:
    def broken(name: str, harm: Callable[[Place], object], says: str, **more: Any) -> Case:
        return Case(f"toolchain: {name}", harm, says, 16, **more)

    this = r"toolchains/bad/bin/python"
    sh = "#!/bin/sh"
    yield broken("missing", toolchain(), f"{this}.*No such file")
    yield broken("broken import", broken_import, "libnvinfer.so.10: cannot open")
    yield broken(
        "hangs", toolchain(sh, "sleep 1000"), f"({this}|toolchain bad).*time limit", limit_s=150
    )
    yield broken(
        "a text file",
        toolchain("just text", mode=0o644),
        f"{this}.*(Permission denied|Exec format)",
    )
    yield broken("an executable text file", toolchain("just text"), f"{this}.*Exec format")
    yield broken("prints garbage", toolchain(sh, "echo hello"), f"{this}.*without a result")
    yield broken("is killed", toolchain(sh, "kill -9 $$"), f"{this}.*SIGKILL")
    yield broken(
        "exits with 3", toolchain(sh, "echo no luck >&2", "exit 3"), f"{this}.*exit code 3.*no luck"
    )
    yield broken(
        "without its GPU's capability",
        _impossible,
        "rtx-ada.*cannot build for compute capability 9.0",
    )


def _impossible(place: Place) -> None:
    place.change(lambda params: params["targets"]["rtx-ada"].update(compute_capability="9.0"))


def _registry() -> Iterator[Case]:
    manifest, plan = f"{ENGINE}/manifest.json", f"{ENGINE}/model.plan"
    damages: list[tuple[str, Callable[[Path], object]]] = [
        ("a merge conflict", conflict),
        ("cut", cut),
        ("empty", empty),
        ("of two keys", lambda path: path.write_text('{"a": 1, "b": 2}')),
        ("a folder", folder),
    ]
    for name, damage in damages:
        harm = on(manifest, damage)
        yield Case(
            f"manifest: {name}, list",
            harm,
            "(?i)own/rtx-ada.*damaged|own.*rtx-ada.*damaged",
            10,
            "any",
            ("list",),
            None,
        )
        yield Case(
            f"manifest: {name}, build", harm, "", 10, "whole", code=0, check=_lists_well, limit_s=40
        )
    yield Case(
        "manifest: a merge conflict, show another",
        on(manifest, conflict),
        "good/rtx-ada/fp16",
        10,
        "any",
        ("show", "good/rtx-ada/fp16"),
        0,
    )
    yield Case(
        "manifest: a merge conflict, verify",
        on(manifest, conflict),
        "own/rtx-ada/fp16",
        10,
        "any",
        ("verify",),
    )
    yield Case(
        "plan: flipped, verify",
        on(plan, flipped),
        f"{ENGINE}/model.plan: sha256",
        3,
        "any",
        ("verify",),
    )
    yield Case("plan: flipped, build", on(plan, flipped), "", 3, "whole", code=0, check=_verifies)
    yield Case(
        "plan: a folder, verify",
        on(plan, folder),
        rf"{ENGINE}.*model\.plan",
        10,
        "any",
        ("verify",),
    )
    yield Case("plan: a folder, build", on(plan, folder), "", 10, "whole", code=0, check=_verifies)
    yield Case(
        "plan: forged with its manifest, verify",
        forged,
        f"{ENGINE}|own/rtx-ada/fp16",
        9,
        "any",
        ("verify",),
    )
    yield Case(
        "plan: forged with its manifest, build", forged, "", 9, "whole", code=0, check=_verifies
    )
    short = report(lambda digest: f'{{"plan_sha256": "{digest}", "failures": []}}')
    yield Case(
        "report: of two keys", short, "rtx-ada", 9, "any", ("list",), None, check=_not_validated
    )
    half = report(lambda digest: f'{{"plan_sha256": "{digest}", "fail')
    yield Case(
        "report: cut, list", half, r"(?i)(report|fp16\.json).*|damaged", 10, "any", ("list",), None
    )
    yield Case("report: cut, build", half, "", 10, "others", code=None)


def _dvc() -> Iterator[Case]:
    for name, damage in (("empty", empty), ("half", cut), ("binary", binary), ("missing", gone)):
        harm = on("dvc.lock", damage)
        says = "" if name == "missing" else r"dvc\.lock"
        yield Case(f"dvc.lock: {name}, build", harm, says, 1, "whole", code=0, limit_s=60)
        yield Case(f"dvc.lock: {name}, status", harm, "", 1, "kept", ("status",), None)
    merged = on("dvc.lock", half_conflict)
    for command in ("build", "status"):
        name = f"dvc.lock: a merge conflict, {command}"
        yield Case(name, merged, r"dvc\.lock.*conflict", 1, "kept", (command,))
    yield Case("dvc.lock: a folder", on("dvc.lock", folder), r"dvc\.lock", 1, "kept", code=None)
    yield Case(
        "dvc: a flipped object in the cache",
        flipped_object,
        "",
        3,
        "whole",
        code=0,
        check=_verifies,
        limit_s=40,
    )
    yield Case("dvc: a lost object in the cache", lost_object, "", 0, "whole", code=0, limit_s=40)
    yield Case(
        "dvc: a remote folder that is not there", remote("/nowhere/at/all"), "", 6, "whole", code=0
    )
    yield Case(
        "dvc: a remote host that is not there",
        remote("http://127.0.0.1:9/x"),
        "127.0.0.1:9|far",
        6,
        "kept",
        code=None,
    )
    yield Case(
        "dvc: a remote of an unknown kind", remote("gopher://x/y"), "gopher", 6, "kept", code=None
    )
    yield Case(
        "dvc: its config is no config",
        text("[core\n", ".dvc/config"),
        r"\.dvc/config|DVC",
        6,
        "nothing",
    )
    yield Case(
        "dvc: no .dvc", lambda place: place.remove(".dvc"), "no DVC project|not .*DVC", 0, "any"
    )
    yield Case(
        "dvc: half of a list of locks", text('{"a', ".dvc/tmp/rwlock"), "", 0, "whole", code=0
    )
    broken = {
        "recipe": "artifacts/recipes/export/own.json",
        "record": "artifacts/models/own/export/record.json",
        "list of images": "artifacts/models/own/images.json",
        "machine": "artifacts/workplace.json",
        "calibration cache": "artifacts/models/own/calibration/calibration.cache",
        "simplified graph": "artifacts/models/own/simplify/model.onnx",
    }
    for name, path in broken.items():
        for how, damage in (("cut", cut), ("a folder", folder)):
            yield Case(
                f"artifacts: {name}, {how}", on(path, damage), "", 6, "whole", code=0, limit_s=40
            )

    def half_counted(place: Place) -> None:
        place.write("artifacts/models/own/calibration-so-far.npz", b"PK half of it")
        set_int8(algorithm="minmax")(place)

    yield Case(
        "artifacts: a calibration so far that is cut",
        half_counted,
        "",
        6,
        "any",
        code=0,
        limit_s=60,
    )


def _caches() -> Iterator[Case]:
    def other(lines: list[str]) -> list[str]:
        return [lines[0], *(f"elsewhere/{line}" for line in lines[1:])]

    def not_a_number(lines: list[str]) -> list[str]:
        return [*lines[:3], f"{lines[3].rsplit(': ', 1)[0]}: 7fc00000", *lines[4:]]

    def negative(lines: list[str]) -> list[str]:
        return [*lines[:3], f"{lines[3].rsplit(': ', 1)[0]}: bf800000", *lines[4:]]

    edits: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
        (
            "cut",
            lambda lines: [*lines[: len(lines) // 2], lines[len(lines) // 2][:-12]],
            r"own\.cache",
        ),
        ("NaN", not_a_number, r"own\.cache"),
        ("negative", negative, r"own\.cache"),
        ("of another model", other, r"own\.cache"),
        ("without its first line", lambda lines: lines[1:], r"own\.cache"),
        ("empty", lambda lines: [], r"own\.cache"),
    ]
    command = ("calibration", "import", OWN, "data/own.cache")
    for name, edit, says in edits:
        yield Case(f"cache: {name}, import", cache(edit), says, 0, "kept", command)
        yield Case(f"cache: {name}, build", and_used(cache(edit)), says)
    yield Case(
        "cache: binary, import",
        text(bytes(range(256)), "data/own.cache"),
        r"own\.cache",
        6,
        "kept",
        command,
    )
    yield Case("cache: missing, import", harmless, r"own\.cache", 6, "kept", command)
    yield Case("cache: missing, build", and_used(harmless), r"own\.cache", 6)
    yield Case(
        "cache: of no model, import",
        cache(list),
        "moon",
        0,
        "kept",
        ("calibration", "import", "moon", "data/own.cache"),
    )


def _commands() -> Iterator[Case]:
    def command(
        name: str, says: str, *words: str, row: int = 0, code: int | None = 1, **variables: str
    ) -> Case:
        return Case(f"command: {name}", harmless, says, row, "kept", words, code, variables)

    def server(name: str, url: str, says: str, row: int = 0) -> Case:
        return Case(
            f"server: {name}", harmless, says, row, "nothing", variables={"PREFECT_API_URL": url}
        )

    yield server("dead", "http://127.0.0.1:9/api", "http://127.0.0.1:9/api")
    yield server("no URL", "nowhere", "nowhere")
    yield server("without /api", "{server_root}", "/api", 5)
    yield server("another program's", "{other}", "{other}", 5)
    yield server("that never answers", "{silent}", "{silent}", 5)
    yield command(
        "a schedule that is none",
        "--cron '99 . . . .' is no schedule",
        "serve",
        "--cron",
        "99 * * * *",
    )
    yield command("build of an unknown target", "--target moon", "build", "--target", "moon")
    yield command("build of an unknown model", "--model moon", "build", "--model", "moon")
    yield command("build of an unknown precision", "--precision fp8", "build", "--precision", "fp8")
    yield command("show of no engine", "moon.*Registered", "show", "moon")
    yield command("show of several engines", "more than one engine", "show", "fp16")
    yield command(
        "calibration of an unknown model", "moon has no calibration", "calibration", "show", "moon"
    )
    yield command(
        "calibration for no version",
        "--tensorrt x",
        "calibration",
        "export",
        OWN,
        "--tensorrt",
        "x",
    )
    yield command("sensitivity of an unknown model", "moon", "sensitivity", "moon", row=6)
    yield command(
        "predict with no such image",
        r"nothing\.jpg|GPU|tensorrt",
        "predict",
        "own/rtx-ada/fp16",
        "nothing.jpg",
        row=6,
    )
    yield command(
        "inspect of an engine for another machine",
        "(?i)GPU|tensorrt",
        "inspect",
        "own/rtx-ada/fp16",
        row=6,
    )
    yield command(
        "toolchain check of no file", "nowhere/python", "toolchain", "check", "nowhere/python"
    )
    yield command(
        "toolchain check of a text file", r"params\.yaml", "toolchain", "check", "params.yaml"
    )
    yield command(
        "toolchain check this", "tensorrt_rtx", "toolchain", "check", "this", row=17, code=0
    )
    yield command("toolchain remove of none", "moon", "toolchain", "remove", "moon")
    yield command(
        "toolchain add of a path",
        "(?i)name|\\.\\./",
        "toolchain",
        "add",
        "../x",
        "tensorrt-rtx-cu13",
    )
    yield command(
        "a file that cannot be written",
        r"params\.yaml(/x)?: (File exists|Not a directory)",
        "calibration",
        "export",
        OWN,
        "--tensorrt",
        "8.6.0",
        "--out",
        "params.yaml/x",
    )
