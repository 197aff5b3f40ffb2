"""What becomes of a child program's words: requests, results, errors, plans,
environments, exactly.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enginery import errors, runtimes
from enginery.errors import DiskFullError, IntegrityError, MissingInterpreterError, ToolchainError
from enginery.project.params import Target
from enginery.runtimes import tensorrt
from enginery.toolchain import child_errors as endings
from enginery.toolchain import client, environments, plan
from enginery.toolchain.requests import (
    BuildRequest,
    BuildResult,
    Inspection,
    InspectRequest,
    Measurement,
    MeasureRequest,
    PointRequest,
    PointResult,
    RefitRequest,
    RefitResult,
    ToolchainInfo,
)

PYTHON = Path("/env/python")


def test_constants() -> None:
    assert (client._PROBE_LIMIT_S, tensorrt.OLDEST, plan._MAGIC) == (120, (8, 5), b"vtrt")
    assert plan._CAPABILITIES == {1: "7.5", 2: "8.0", 4: "8.6", 8: "8.9", 16: "12.0", 32: "12.1"}
    assert (
        Path(".toolchains"),
        ("tensorrt", "tensorrt_rtx"),
    ) == (environments.FOLDER, runtimes.names())
    needs = {
        "optimization_level": ("optimization level", "leave it out, or use TensorRT 8.6 or later"),
        "strongly_typed": ("strong typing", "leave it out, or use TensorRT 10"),
        "sparsity": ("sparsity", "leave it out"),
        "version_compatible": ("version compatible", "leave it out, or use TensorRT 8.6 or later"),
        "hardware_compatible": (
            "hardware compatible",
            "leave it out, or use TensorRT 8.6 or later",
        ),
        "refittable": ("refit", "leave it out"),
        "dla_core": ("DLA", "leave it out, or use TensorRT 10"),
    }
    assert needs == tensorrt._NEEDS


# Plans


def a_plan(
    path: Path,
    mask: int = 8,
    version: tuple[int, ...] = (1, 7, 1, 116),
    wrong: int = 0,
    size: int = 40,
) -> str:
    """A plan with a header as TensorRT-RTX writes it; its digest."""
    data = (
        b"vtrt"
        + bytes(12)
        + struct.pack("<Q", size + wrong)
        + bytes(version)
        + bytes(4)
        + struct.pack("<I", mask)
    )
    path.write_bytes(data + bytes(size - len(data)))
    return hashlib.sha256(path.read_bytes()).hexdigest()


AGAIN = plan._CURE


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (1, ("7.5",)),
        (2, ("8.0",)),
        (4, ("8.6",)),
        (8, ("8.9",)),
        (16, ("12.0",)),
        (32, ("12.1",)),
        (64, ()),
        (0, ()),
        (12, ("8.6", "8.9")),
        (63, ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")),
    ],
)
def test_a_header(tmp_path: Path, mask: int, names: tuple[str, ...]) -> None:
    a_plan(tmp_path / "p", mask, (1, 2, 3, 255))
    assert plan.read_header(tmp_path / "p") == plan.PlanHeader("1.2.3.255", names)
    a_plan(tmp_path / "p", mask, size=36)
    assert plan.read_header(tmp_path / "p").version == "1.7.1.116"


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    path = tmp_path / "p"
    for data in (b"", b"vtrt", b"vtrt" + bytes(31), b"vtrT" + bytes(40), b"xvtrt" + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(IntegrityError) as error:
            plan.read_header(path)
        assert str(error.value) == f"{path} is no TensorRT-RTX plan. {AGAIN}"
    for wrong in (1, -1):
        a_plan(path, wrong=wrong)
        with pytest.raises(IntegrityError) as error:
            plan.read_header(path)
        assert str(error.value) == f"{path} has 40 bytes, its header says {40 + wrong}. {AGAIN}"


def test_a_changed_byte_is_said(tmp_path: Path) -> None:
    path = tmp_path / "p"
    digest = a_plan(path)
    plan.check_digest(path, digest)
    other = "0" * 64
    with pytest.raises(IntegrityError) as error:
        plan.check_digest(path, other)
    assert (
        str(error.value)
        == f"{path}: sha256 {digest[:12]}, 000000000000 is recorded: a byte changed. {AGAIN}"
    )


def test_a_plan_is_for_the_capability_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "p"
    digest = a_plan(path, 8)
    header = plan.PlanHeader("1.7.1.116", ("8.9",))
    assert plan.check_plan(path, digest, "8.9") == plan.check_plan(path, digest, None) == header
    with pytest.raises(IntegrityError) as error:
        plan.check_plan(path, digest, "8.6")
    assert str(error.value) == f"{path} is for compute capability 8.9, not 8.6. {AGAIN}"
    digest = a_plan(path, 12)
    with pytest.raises(IntegrityError, match=r"is for compute capability 8\.6, 8\.9, not 8\.9"):
        plan.check_plan(path, digest, "8.9")
    digest = a_plan(path, 0)
    with pytest.raises(IntegrityError, match=r"is for compute capability none known, not 8\.9"):
        plan.check_plan(path, digest, "8.9")
    with pytest.raises(IntegrityError, match="a byte changed"):
        plan.check_plan(path, "0" * 64, None)


def test_each_runtimes_plan_is_checked_by_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "p"
    digest = a_plan(path, 8)
    plan.check_built(path, digest, "tensorrt_rtx", "8.9")
    plan.check_built(path, digest, "tensorrt", "8.6")  # its plans have no header that is known
    for runtime, capability, words in (
        ("tensorrt_rtx", "8.6", "compute capability"),
        ("tensorrt_rtx", "8.9", "a byte changed"),
        ("tensorrt", None, "a byte changed"),
    ):
        with pytest.raises(IntegrityError, match=words):
            plan.check_built(
                path, digest if "capability" in words else "0" * 64, runtime, capability
            )
    path.write_bytes(b"other")
    plan.check_built(path, hashlib.sha256(b"other").hexdigest(), "tensorrt", None)
    with pytest.raises(IntegrityError, match="is no TensorRT-RTX plan"):
        plan.check_built(path, hashlib.sha256(b"other").hexdigest(), "tensorrt_rtx", None)


# Features


def asked(version: str, *has: str, runtime: str = "tensorrt", **options: Any) -> list[str]:
    info = ToolchainInfo(runtime, version, "3.11", "linux", has, ())
    target = Target(runtime="tensorrt", **options)
    return list(runtimes.find(runtime).mistakes("mine", target, info))


def test_what_is_asked_for_in_vain() -> None:
    assert asked("8.4.3.1") == [
        "targets.mine: tensorrt 8.4.3.1 is too old; 8.5 to 11 are supported"
    ]
    assert asked("8.5") == asked("8.10.1") == asked("10.0") == asked("11.4.0.106") == []
    assert asked("7.9.9") == ["targets.mine: tensorrt 7.9.9 is too old; 8.5 to 11 are supported"]
    assert sorted(asked("8.5.1", sparsity=True, dla_core=0)) == [
        "targets.mine.dla_core: tensorrt 8.5.1 has no DLA: leave it out, or use TensorRT 10",
        "targets.mine.sparsity: tensorrt 8.5.1 has no sparsity: leave it out",
    ]
    assert asked("8.5.1", "sparsity", sparsity=True) == []
    assert asked("11.0", calibration="native") == [
        "targets.mine.calibration: 'native': tensorrt 11.0 has no calibrators: use `portable`, whose ranges become Q/DQ nodes"
    ]
    assert (
        asked("10.0", "calibrators", calibration="native")
        == asked("11.0", calibration="portable")
        == []
    )
    assert asked("1.0", runtime="tensorrt_rtx", sparsity=True) == []


# Endings


REQUEST = {"do": "build", "runtime": "tensorrt", "plan": "a.plan", "onnx": "g.onnx"}
GRAPH = "The graph must be changed"


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (
            "toolchain",
            "ToolchainError",
            "/env/python: MESSAGE. Install tensorrt there, or name another toolchain",
        ),
        (
            "library",
            "ToolchainError",
            "/env/python: MESSAGE. Install the package with this library there",
        ),
        (
            "pycuda",
            "ToolchainError",
            "/env/python: NumPy and pycuda are needed to use a GPU: MESSAGE. Install numpy and pycuda there",
        ),
        (
            "driver",
            "ToolchainError",
            "/env/python: MESSAGE. Install NVIDIA's driver, or use the machine with the GPU",
        ),
        (
            "memory",
            "BuildError",
            "build with tensorrt: too little memory: MESSAGE. Free GPU memory, use smaller shapes, or change workspace_mib",
        ),
        (
            "parameter",
            "BuildError",
            "build with tensorrt: MESSAGE. Correct the target in params.yaml",
        ),
        (
            "data",
            "DataError",
            "build with tensorrt: MESSAGE. Add images, or make the batch smaller",
        ),
        (
            "gpu",
            "GpuError",
            "build with tensorrt: the GPU failed: MESSAGE. Look at nvidia-smi and the kernel's log, then run again",
        ),
        ("refit", "RefitError", "build with tensorrt: MESSAGE. Build it"),
        (
            "engine",
            "EngineError",
            "a.plan does not run here: MESSAGE. An engine runs on the GPU and with the TensorRT it was built for",
        ),
        (
            "file",
            "ToolchainError",
            "build with tensorrt: MESSAGE. Free some space or correct the path, then run again",
        ),
        ("parse", "BuildError", f"tensorrt cannot parse g.onnx: MESSAGE. {GRAPH}"),
        ("profile", "BuildError", f"tensorrt refused the profile of g.onnx: MESSAGE. {GRAPH}"),
        ("build", "BuildError", f"tensorrt could not build g.onnx: MESSAGE. {GRAPH}"),
        (
            "unheard of",
            "ToolchainError",
            "/env/python: MESSAGE. Install tensorrt there, or name another toolchain",
        ),
    ],
)
def test_each_refusal_is_an_error_of_its_kind(kind: str, error: str, words: str) -> None:
    found = endings.refusal(PYTHON, REQUEST, {"kind": kind, "message": "it says why"})
    assert type(found) is getattr(errors, error)
    assert str(found) == words.replace("MESSAGE", "it says why")


def test_a_damaged_plan_is_named_with_what_restores_it() -> None:
    found = endings.refusal(PYTHON, REQUEST, {"kind": "integrity", "message": "it says why"})
    assert type(found) is IntegrityError
    assert found.what == "a.plan: it says why; it was not loaded"
    assert "restore" in found.cure


def test_a_refusal_of_a_probe_has_no_plan() -> None:
    found = endings.refusal(
        PYTHON, {"do": "probe", "runtime": "tensorrt"}, {"kind": "integrity", "message": "m"}
    )
    assert str(found).startswith(": m; it was not loaded")
    found = endings.refusal(
        PYTHON, {"do": "probe", "runtime": "tensorrt"}, {"kind": "parse", "message": "m"}
    )
    assert str(found) == f"tensorrt cannot parse : m. {GRAPH}"


@pytest.mark.parametrize(
    ("do", "last", "code", "error", "words"),
    [
        (
            "build",
            (),
            3,
            "ChildCrashedError",
            "build with tensorrt: the child ended with exit code 3 without a result. Nothing else is lost; run again.",
        ),
        (
            "build",
            (),
            0,
            "ChildCrashedError",
            "build with tensorrt: the child ended with exit code 0 without a result. Nothing else is lost; run again.",
        ),
        (
            "probe",
            ("a", "b"),
            1,
            "ChildCrashedError",
            "probe with tensorrt: the child ended with exit code 1 without a result. Install TensorRT there again. Its last words: a | b",
        ),
        (
            "build",
            ("a",),
            -11,
            "ChildCrashedError",
            "build with tensorrt: the child was killed by SIGSEGV without a result. Nothing else is lost; run again. Its last words: a",
        ),
        (
            "build",
            (),
            -9,
            "ChildCrashedError",
            "build with tensorrt: the child was killed by SIGKILL (often a sign of too little memory) without a result. "
            "Nothing else is lost; run again.",
        ),
        (
            "build",
            (),
            None,
            "ChildTimeoutError",
            "build with tensorrt was stopped at its time limit of 2.5 s. Raise time_limit_s of the target.",
        ),
        (
            "probe",
            ("x",),
            None,
            "ChildTimeoutError",
            "probe with tensorrt was stopped at its time limit of 2.5 s. Is it on a slow disk? Its last words: x",
        ),
    ],
)
def test_a_child_without_a_result(
    do: str, last: tuple[str, ...], code: int | None, error: str, words: str
) -> None:
    found = endings.early_end(PYTHON, {"do": do, "runtime": "tensorrt"}, last, code, 2.5)
    assert type(found) is getattr(errors, error)
    assert str(found) == f"/env/python: {words}"


def test_a_child_that_was_killed_outright() -> None:
    found = endings.early_end(PYTHON, {"do": "build", "runtime": "tensorrt"}, (), -9, 2.5)
    assert type(found) is errors.ChildCrashedError
    for words in (
        "the child was killed by SIGKILL",
        "often a sign of too little memory",
        "run again",
    ):
        assert words in str(found)


# The client


class Child:
    """Records what a child is asked, and does what the test says."""

    asked: list[Any]
    facts: Mapping[str, Any]

    def __init__(self, python: Path, request: Mapping[str, Any], on_event: Any) -> None:
        self.given = (python, dict(request), on_event)
        self.warnings = ["one", "two"]

    def result(self, time_limit: float) -> dict[str, Any]:
        type(self).asked.append((*self.given, time_limit))
        return type(self).work(self.given[1])

    @classmethod
    def work(cls, request: Mapping[str, Any]) -> dict[str, Any]:
        return dict(cls.facts)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[Child]:
    class Fresh(Child):
        asked: list[Any] = []  # noqa: RUF012
        facts: Mapping[str, Any] = {}

    monkeypatch.setattr(client, "Child", Fresh)
    return Fresh


def test_a_probe(child: type[Child]) -> None:
    child.facts = {
        "runtime": "tensorrt",
        "version": "10.0",
        "python": "3.11",
        "platform": "linux",
        "features": ["a", "b"],
        "compute_capabilities": ["8.6"],
        "gpus": [{"gpu": "Card"}],
        "no_gpu": "why",
        "blind": True,
    }
    info = client.probe(PYTHON, "tensorrt", "GPU-1")
    assert info == ToolchainInfo(
        "tensorrt", "10.0", "3.11", "linux", ("a", "b"), ("8.6",), ({"gpu": "Card"},), "why", True
    )
    client.probe(PYTHON, "tensorrt_rtx")
    (python, request, on_event, limit), (_, other, _, _) = child.asked
    assert (python, request, limit) == (
        PYTHON,
        {"do": "probe", "runtime": "tensorrt", "gpu": "GPU-1"},
        120,
    )
    assert on_event({}) is None
    assert other == {"do": "probe", "runtime": "tensorrt_rtx", "gpu": None}


def build_request(folder: Path, runtime: str = "tensorrt") -> BuildRequest:
    return BuildRequest(
        runtime,
        Path("g.onnx"),
        folder / "p.plan",
        "g",
        compute_capability="8.9",
        profiles=({"x": {"min": [1]}},),
    )


RESULT = {
    "plan_bytes": 4,
    "weights_sha256": None,
    "seconds": 1.5,
    "peak_memory_mib": 2.5,
    "runtime_version": "10.0",
    "skipped_tactics": 3,
    "dla_fallback": ["a"],
    "refittable_weights": ["w"],
}


def writing(child: type[Child], field: str, data: bytes, **facts: Any) -> None:
    """The child writes this where it was asked to."""

    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        Path(request[field]).write_bytes(data)
        return {"plan_sha256": hashlib.sha256(data).hexdigest(), **facts}

    child.work = work  # type: ignore[method-assign, assignment]


def test_a_build(child: type[Child], tmp_path: Path) -> None:
    writing(child, "plan", b"plan", **RESULT)
    request = build_request(tmp_path)
    found = client.build(PYTHON, request, print, 9.5)
    assert found == BuildResult(
        hashlib.sha256(b"plan").hexdigest(),
        4,
        None,
        1.5,
        2.5,
        "10.0",
        3,
        ("a",),
        ("w",),
        ("one", "two"),
    )
    [(python, given, on_event, limit)] = child.asked
    assert (python, on_event, limit) == (PYTHON, print, 9.5)
    partial = given.pop("plan")
    assert (partial.parent, partial != request.plan) == (tmp_path, True)
    expected = asdict(request)
    del expected["plan"]
    assert given == {**expected, "do": "build"}
    assert [path.name for path in tmp_path.iterdir()] == ["p.plan"]
    assert request.plan.read_bytes() == b"plan"


@pytest.mark.parametrize(
    ("runtime", "data", "facts", "words"),
    [
        ("tensorrt_rtx", b"plan", RESULT, "is no TensorRT-RTX plan"),
        ("tensorrt", b"plan", {**RESULT, "plan_sha256": "0" * 64}, "a byte changed"),
    ],
)
def test_a_built_plan_is_checked_before_it_counts(
    child: type[Child],
    tmp_path: Path,
    runtime: str,
    data: bytes,
    facts: Mapping[str, Any],
    words: str,
) -> None:
    writing(child, "plan", data, **facts)
    with pytest.raises(IntegrityError, match=words):
        client.build(PYTHON, build_request(tmp_path, runtime), print, 9)
    assert list(tmp_path.iterdir()) == []


def test_a_built_plan_is_for_its_capability(child: type[Child], tmp_path: Path) -> None:
    a_plan(tmp_path / "made", 4)
    writing(child, "plan", (tmp_path / "made").read_bytes(), **RESULT)
    with pytest.raises(IntegrityError, match=r"for compute capability 8\.6, not 8\.9"):
        client.build(PYTHON, build_request(tmp_path, "tensorrt_rtx"), print, 9)
    assert not (tmp_path / "p.plan").exists()


def refit_request(folder: Path) -> RefitRequest:
    return RefitRequest(
        "tensorrt",
        Path("old.plan"),
        "abc",
        weights=Path("w.npz"),
        out=folder / "new.plan",
        ranges={"t": 1.0},
    )


def test_a_refit(child: type[Child], tmp_path: Path) -> None:
    writing(child, "out", b"new", plan_bytes=3, seconds=0.5, runtime_version="10.0")
    request = refit_request(tmp_path)
    found = client.refit(PYTHON, request, print, 8)
    assert found == RefitResult(hashlib.sha256(b"new").hexdigest(), 3, 0.5, "10.0")
    [(python, given, on_event, limit)] = child.asked
    assert (python, on_event, limit) == (PYTHON, print, 8)
    assert given.pop("out").parent == tmp_path
    expected = asdict(request)
    del expected["out"]
    assert given == {**expected, "do": "refit"}
    assert given["prefix"] == "weights/"
    assert [path.name for path in tmp_path.iterdir()] == ["new.plan"]
    writing(
        child,
        "out",
        b"new",
        plan_sha256="0" * 64,
        plan_bytes=3,
        seconds=0.5,
        runtime_version="10.0",
    )
    request.out.unlink()
    with pytest.raises(IntegrityError, match="a byte changed"):
        client.refit(PYTHON, request, print, 8)
    assert list(tmp_path.iterdir()) == []


def test_measuring_and_inspecting(child: type[Child]) -> None:
    point = PointRequest((1, 3, 8, 8), Path("i.npy"), Path("out"))
    measure = MeasureRequest("tensorrt", Path("a.plan"), "abc", "GPU-1", True, 1, points=(point,))
    inspect = InspectRequest("tensorrt", Path("a.plan"), "abc", shape=(1, 3, 8, 8))
    result = {"outputs": ["a"], "milliseconds": [0.5], "timing": None}
    child.facts = {"points": [result], "gpu": {"uuid": "GPU-1"}}
    assert client.measure(PYTHON, measure, print, 7) == Measurement(
        (PointResult(("a",), (0.5,)),), {"uuid": "GPU-1"}
    )
    child.facts = {"layers": ["a", {"Name": "b"}], "milliseconds": {"a": 1.0}, "device_memory": 3}
    assert client.inspect(PYTHON, inspect, repr, 6) == Inspection(
        ("a", {"Name": "b"}), {"a": 1.0}, 3
    )
    first, second = child.asked
    assert first == (PYTHON, {**asdict(measure), "do": "measure"}, print, 7)
    assert second == (PYTHON, {**asdict(inspect), "do": "inspect"}, repr, 6)
    assert (first[1]["runs"], first[1]["noisy"], first[1]["points"][0]["timed"]) == (
        200,
        1.25,
        True,
    )


# Environments


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "A", "-a", "_a", "ä", "a b", "/a", "this", "a\n"]
)
def test_names_that_are_none(name: str) -> None:
    for use in (
        environments.interpreter,
        environments.remove,
        lambda name: environments.make(name, []),
    ):
        with pytest.raises(ToolchainError) as error:
            use(name)
        assert str(error.value) == (
            f"{name!r} is no name for a toolchain. Use small letters, digits, - and _, and not 'this'"
        )


def test_an_interpreter_lies_below_its_folder() -> None:
    assert environments.interpreter("trt-10_3") == Path(".toolchains/trt-10_3/bin/python")


INFO = ToolchainInfo("tensorrt_rtx", "1.7", "3.11", "linux", (), ())


def test_a_toolchain_is_whatever_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    answers: dict[str, Any] = {"tensorrt": ToolchainError("no tensorrt", "c"), "tensorrt_rtx": INFO}

    def probe(python: Path, runtime: str) -> ToolchainInfo:
        calls.append((python, runtime))
        if isinstance(answers[runtime], Exception):
            raise answers[runtime]
        return answers[runtime]  # type: ignore[no-any-return]

    monkeypatch.setattr(environments, "probe", probe)
    assert environments.identify(PYTHON) is INFO
    assert calls == [(PYTHON, "tensorrt"), (PYTHON, "tensorrt_rtx")]
    for second, said in (("no rtx", "no tensorrt; no rtx"), ("no tensorrt", "no tensorrt")):
        answers["tensorrt_rtx"] = ToolchainError(second, "c")
        with pytest.raises(ToolchainError) as error:
            environments.identify(PYTHON)
        assert str(error.value) == f"{said}. Install tensorrt or a tensorrt-rtx package there"
    answers["tensorrt"] = MissingInterpreterError("nothing there", "c")
    with pytest.raises(MissingInterpreterError, match="nothing there"):
        environments.identify(PYTHON)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """In a folder of its own; each command is recorded, and the environment
    appears with the first.
    """
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []

    def run(command: list[str], doing: str) -> None:
        calls.append((command, doing))
        (Path(".toolchains") / "mine").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "identify", lambda python: calls.append(python) or INFO)
    yield calls


def test_an_environment_is_made(commands: list[Any]) -> None:
    assert environments.make("mine", ["tensorrt==10", "numpy"], "/usr/bin/python3") is INFO
    python = Path(".toolchains/mine/bin/python")
    pip = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "tensorrt==10",
        "numpy",
    ]
    assert commands == [
        (["/usr/bin/python3", "-m", "venv", ".toolchains/mine"], "make the environment"),
        (pip, "install tensorrt==10 numpy"),
        python,
    ]
    with pytest.raises(ToolchainError) as error:
        environments.make("mine", [])
    assert (
        str(error.value)
        == "there is a toolchain mine already. Remove it first: enginery toolchain remove mine"
    )
    assert len(commands) == 3
    environments.remove("mine")
    assert not Path(".toolchains/mine").exists()
    environments.make("mine", [])
    assert commands[3][0][0] == sys.executable


@pytest.mark.parametrize("error", [ToolchainError("no", ""), KeyboardInterrupt()])
def test_what_could_not_be_made_is_taken_away(
    commands: list[Any], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(python: Path) -> None:
        assert Path(".toolchains/mine").is_dir()
        raise error

    monkeypatch.setattr(environments, "identify", fail)
    with pytest.raises(type(error)):
        environments.make("mine", [])
    assert not Path(".toolchains/mine").exists()


def test_what_was_not_made_here_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cure = "others are only named in params.yaml"
    with pytest.raises(ToolchainError) as error:
        environments.remove("mine")
    assert str(error.value) == f"no toolchain mine was made here. Made here: none; {cure}"
    for name in ("b", "a"):
        (tmp_path / ".toolchains" / name).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".toolchains/link").symlink_to(tmp_path / "elsewhere")
    for name in ("mine", "link"):
        with pytest.raises(ToolchainError) as error:
            environments.remove(name)
        assert (
            str(error.value) == f"no toolchain {name} was made here. Made here: a, b, link; {cure}"
        )
    assert (tmp_path / "elsewhere").is_dir()


def finished(code: int, out: str = "", err: str = "") -> Any:
    return SimpleNamespace(returncode=code, stdout=out, stderr=err)


SPACE = "Correct its name or version, or free some space"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            finished(1, "out", "ERROR: a\nmore\nERROR: b\nERROR: a\n"),
            f"could not do it: ERROR: a ERROR: b. {SPACE}",
        ),
        (finished(1, "one\ntwo", ""), f"could not do it: two. {SPACE}"),
        (finished(1, "ERROR: x\ny", ""), f"could not do it: ERROR: x. {SPACE}"),
        (finished(1, "out", "odd\nlast"), f"could not do it: last. {SPACE}"),
        (finished(1), f"could not do it: it said nothing. {SPACE}"),
        (
            finished(2, "", "NewConnectionError\nERROR: none found"),
            "could not do it: ERROR: none found. Is the network there?",
        ),
        (finished(1, "", "ERROR" + "x" * 500), f"could not do it: ERROR{'x' * 395}. {SPACE}"),
    ],
)
def test_why_a_command_failed(monkeypatch: pytest.MonkeyPatch, result: Any, words: str) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        environments.subprocess,
        "run",
        lambda *given, **named: calls.append((given, named)) or result,
    )
    with pytest.raises(ToolchainError) as error:
        environments._run(["a", "b"], "do it")
    assert str(error.value) == words
    assert calls == [
        ((["a", "b"],), {"capture_output": True, "text": True, "errors": "replace", "check": False})
    ]


def test_commands_that_succeed_or_cannot_start(tmp_path: Path) -> None:
    environments._run(
        [sys.executable, "-c", "import sys; sys.stderr.write('ERROR: but well\\n')"], "do it"
    )
    with pytest.raises(ToolchainError) as error:
        environments._run([str(tmp_path / "none"), "-m"], "do it")
    assert str(error.value) == (
        f"could not do it: {tmp_path}/none: No such file or directory. Name an interpreter with --python"
    )
    environments._run(
        [sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'\\xff')"], "do it"
    )


def test_a_full_disk_is_said_by_a_build(child: type[Child], tmp_path: Path) -> None:
    def work(request: Mapping[str, Any]) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    child.work = work  # type: ignore[method-assign, assignment]
    with pytest.raises(DiskFullError, match=f"no room to write {tmp_path}/p.plan"):
        client.build(PYTHON, build_request(tmp_path), print, 9)
