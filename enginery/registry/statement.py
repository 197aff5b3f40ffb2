"""What is signed of a published engine: its name and version, its state, and the digests of its
plan, its manifest and its report.
"""

from __future__ import annotations

from pathlib import Path

from enginery.errors import SignatureError
from enginery.registries.interface import SIGNATURE, STATEMENT
from enginery.registry.published import Contents, PublishedEngine
from enginery.registry.records import Positive, Record, Sha256, parse
from enginery.registry.signatures import NAMESPACE, sign, verify
from enginery.system.files import dumps


class Statement(Record):
    """What the signature of a version covers."""

    engine: str
    version: Positive
    state: str
    plan_sha256: Sha256
    manifest_sha256: Sha256
    report_sha256: Sha256 | None


def statement_of(contents: Contents, version: int) -> Statement:
    """What a signature of a version says."""
    return Statement(
        engine=str(contents.name),
        version=version,
        state=contents.state,
        plan_sha256=contents.plan_sha256,
        manifest_sha256=contents.manifest_sha256,
        report_sha256=contents.report_sha256,
    )


def signed_files(contents: Contents, version: int, key: str) -> dict[str, bytes]:
    """A statement and its signature, by the names of their files.

    Raises:
        SignatureError: the key does not sign.
    """
    content = dumps(statement_of(contents, version).to_json()).encode()
    return {STATEMENT: content, SIGNATURE: sign(content, key)}


def check_signature(engine: PublishedEngine, folder: Path, allowed: Path) -> str:
    """Who signed this very version of an engine, whose files are in a folder.

    Raises:
        SignatureError: nobody whose signature counts, or it is of something else.
    """
    files = [folder / STATEMENT, folder / SIGNATURE]
    content, signature = (path.read_bytes() if path.is_file() else b"" for path in files)
    who = verify(content, signature, allowed, NAMESPACE, engine.title)
    try:
        signed = parse(content, Statement)
    except ValueError as error:
        raise SignatureError(f"{engine.title}: its signed statement {error}") from None
    expected = statement_of(engine, engine.version)
    for key, value in expected.to_json().items():
        if signed.to_json().get(key) != value:
            what = f"{engine.title}: {who} signed {key} {signed.to_json().get(key)}, not {value}"
            raise SignatureError(what, "Do not use it, and find out who changed the registry")
    return who
