"""Registered engines and reports that are damaged or forged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.trouble.cases.case import Case, verifies
from benchmarks.trouble.cases.harm import conflict, cut, empty, flipped, folder, on
from benchmarks.trouble.checkouts import Place

ENGINE = "artifacts/engines/own/rtx-ada/fp16"


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


def registry_cases() -> Iterator[Case]:
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
    yield Case("plan: flipped, build", on(plan, flipped), "", 3, "whole", code=0, check=verifies)
    yield Case(
        "plan: a folder, verify",
        on(plan, folder),
        rf"{ENGINE}.*model\.plan",
        10,
        "any",
        ("verify",),
    )
    yield Case("plan: a folder, build", on(plan, folder), "", 10, "whole", code=0, check=verifies)
    yield Case(
        "plan: forged with its manifest, verify",
        forged,
        f"{ENGINE}|own/rtx-ada/fp16",
        9,
        "any",
        ("verify",),
    )
    yield Case(
        "plan: forged with its manifest, build", forged, "", 9, "whole", code=0, check=verifies
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
