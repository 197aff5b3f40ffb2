"""Signatures with the team's SSH keys: `ssh-keygen -Y sign` and `-Y verify`.

Its file of allowed signers says whose keys count, and until when.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from enginery.errors import SignatureError
from enginery.system.files import temporary_folder

NAMESPACE = "engine@enginery"
_TOOL = "ssh-keygen"


def sign(content: bytes, key: str, namespace: str = NAMESPACE) -> bytes:
    """The signature of some bytes, with a private key's file (or a public one's, if an agent has
    the private one).

    Raises:
        SignatureError: the key does not sign.
    """
    path = Path(key).expanduser()
    ended = _run(["-Y", "sign", "-q", "-n", namespace, "-f", str(path)], content)
    if ended.returncode:
        what = f"the key {path} does not sign: {_said(ended)}"
        raise SignatureError(what, "Correct registry.signing_key in params.yaml, or load the key")
    return ended.stdout


def verify(content: bytes, signature: bytes, allowed: Path, namespace: str, what: str) -> str:
    """Who signed some bytes; `what` they are is said where nobody did.

    Raises:
        SignatureError: the signature is missing, of other bytes, or of a key that does not count.
    """
    cure = f"Use engines that the team signed, or correct {allowed}"
    if not allowed.is_file():
        raise SignatureError(f"{allowed} is missing, which says whose signatures count", cure)
    if not signature:
        raise SignatureError(f"{what} is not signed", cure)
    with temporary_folder() as folder:
        (folder / "signature").write_bytes(signature)
        files = ["-s", str(folder / "signature"), "-f", str(allowed)]
        known = _run(["-Y", "find-principals", "-n", namespace, *files], b"")
        who = known.stdout.decode(errors="replace").splitlines()
        if known.returncode or not who:
            reason = f"{what} is signed with a key that {allowed} does not have, or has no more"
            raise SignatureError(f"{reason} ({_said(known)})", cure)
        ended = _run(["-Y", "verify", "-n", namespace, "-I", who[0], *files], content)
    if ended.returncode:
        raise SignatureError(f"{what}: {who[0]} did not sign this: {_said(ended)}", cure)
    return who[0]


def _run(arguments: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run([_TOOL, *arguments], input=data, capture_output=True, check=False)
    except FileNotFoundError:
        what = f"{_TOOL} is not installed, and engines are signed with it"
        raise SignatureError(what, "Install OpenSSH's client") from None


def _said(ended: subprocess.CompletedProcess[bytes]) -> str:
    lines = (ended.stderr or ended.stdout).decode(errors="replace").splitlines()
    return "; ".join(line.strip() for line in lines) or "it said nothing"
