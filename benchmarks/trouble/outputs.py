"""What a run leaves in a checkout: digests of its outputs, and partial files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

PARTIAL = ("*.part", "*.tmp", ".scratch.*", "*.unpacking")
OUTPUTS = (".onnx", ".plan", ".cache")


def partial_files(root: Path) -> list[str]:
    """What is half written in a checkout."""
    found = {path for pattern in PARTIAL for path in root.rglob(pattern)}
    return sorted(str(path.relative_to(root)) for path in found)


def digests(root: Path, part: str = "") -> dict[str, str]:
    """sha256 of every graph, cache, plan and manifest below artifacts/PART."""
    artifacts = root / "artifacts"
    return {
        str(path.relative_to(artifacts)): sha256_of(path)
        for path in sorted((artifacts / part).rglob("*"))
        if path.is_file() and (path.suffix in OUTPUTS or path.name == "manifest.json")
    }


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs between two answers of `digests`, in words."""
    lost = [f"{name} is missing" for name in sorted(before.keys() - after.keys())]
    new = [f"{name} is new" for name in sorted(after.keys() - before.keys())]
    same = sorted(before.keys() & after.keys())
    return [*lost, *new, *(f"{name} differs" for name in same if before[name] != after[name])]
