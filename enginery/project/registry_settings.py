"""`registry` of params.yaml: where the team's engines are, and whose signatures count."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from enginery import registries
from enginery.errors import SignatureError


class RegistrySettings(BaseModel):
    """A back end, its location, and the team's SSH keys.

    Without a `location` the back end takes its own: `git` takes the remote `origin` of the
    checkout. `signing_key` signs what this machine publishes and promotes; `allowed_signers` is a
    file of ssh-keygen's. With `require_signature` nothing else is pulled. With `approval` a person
    approves each promotion in Prefect's UI.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str = registries.DEFAULT
    location: str | None = None
    signing_key: str | None = None
    allowed_signers: str | None = None
    require_signature: bool = False
    approval: bool = False


def check_can_sign(settings: RegistrySettings) -> None:
    """Make sure that hosts will take what this machine adds to the registry.

    Raises:
        SignatureError: signatures are asked for, and it has no key.
    """
    if settings.require_signature and not settings.signing_key:
        what = "registry.require_signature is true, and registry.signing_key is not set"
        raise SignatureError(what, "Name this machine's key: hosts would refuse what it adds")


def mistakes(settings: RegistrySettings) -> Iterator[str]:
    """What in it does not fit together, each with its key."""
    if settings.backend not in registries.names():
        known = " or ".join(registries.names())
        yield f"registry.backend: {settings.backend!r}: {known} is expected"
    if settings.require_signature and not settings.allowed_signers:
        yield (
            "registry.allowed_signers: missing: require_signature needs the file that says whose "
            "signatures count"
        )
