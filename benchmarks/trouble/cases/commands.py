"""Commands that are wrong themselves, and surroundings that are."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.trouble.cases.case import OWN, Case, harmless


def command_cases() -> Iterator[Case]:
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
