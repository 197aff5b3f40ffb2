"""Plans at DVC's remote: sent there for the team's registry, and fetched on a host that has no
project.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enginery.errors import DiskFullError, EngineryError
from enginery.pipeline import yaml12
from enginery.pipeline.disk import disk_full_guard
from enginery.pipeline.lockfile import md5
from enginery.pipeline.push import Progress, Remote
from enginery.pipeline.repository import open_repository
from enginery.system.files import is_full, temporary_folder

CONFIG = ".dvc/config"
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class SentPlans:
    """The digests of plans that are at the remote now, in the order in which they were given, and
    the configuration with which any host finds them.
    """

    digests: tuple[str, ...]
    config: bytes


def send_plans(root: Path, plans: Sequence[Path], progress: Progress) -> SentPlans:
    """Send plans to the default remote of the project at `root`, and ask it whether they arrived.

    Raises:
        EngineryError: there is no remote that other machines know, or it did not take them.
    """
    with disk_full_guard(root):
        repository = open_repository(root)
    remote = Remote(repository)
    config = _shared_config(repository, remote)
    digests = {md5(plan): plan for plan in plans}
    try:
        held = remote.held(sorted(digests), progress)
        remote.send({digest: digests[digest] for digest in digests.keys() - held}, progress)
        missing = digests.keys() - remote.held(sorted(digests), progress)
    except EngineryError:
        raise
    except Exception as error:  # each kind of remote has errors of its own
        raise _failed(remote.name, remote.url, error) from None
    finally:
        repository.close()
    if missing:
        what = f"{len(missing)} of {len(digests)} plans did not arrive at the DVC remote"
        cure = "Look at its rights and its room, then run again: nothing was published"
        raise EngineryError(f"{what} {remote.name} ({remote.url})", cure)
    return SentPlans(tuple(md5(plan) for plan in plans), config)


def fetch_plan(root: Path, config: bytes, digest: str, plan: Path) -> None:
    """Fetch a plan: from the default remote of the project at `root`, with its passwords, if there
    is one, else from the remote that a configuration names.

    The two are not mixed: whoever writes the configuration could have a password sent elsewhere.

    Raises:
        DiskFullError: there is no room for it.
        EngineryError: the remote does not answer, or has it not.
    """
    if _has_remote(root):
        _fetch(root, digest, plan)
        return
    with temporary_folder() as folder:
        (folder / ".dvc").mkdir()
        (folder / CONFIG).write_bytes(_without_git(config))
        _fetch(folder, digest, plan)


def _fetch(root: Path, digest: str, plan: Path) -> None:
    with disk_full_guard(root):
        repository = open_repository(root)
    try:
        remote = Remote(repository)
        remote.fetch(digest, plan)
    except FileNotFoundError:
        what = f"the DVC remote {remote.name} ({remote.url}) has not the plan {digest}"
        cure = "Publish it again from a machine that has it (`enginery publish`)"
        raise EngineryError(what, cure) from None
    except EngineryError:
        raise
    except Exception as error:  # each kind of remote has errors of its own
        if is_full(error):
            raise DiskFullError(plan) from None
        raise _failed(remote.name, remote.url, error) from None
    finally:
        repository.close()


def _has_remote(root: Path) -> bool:
    """Whether a project is here that names a remote, in the file that its machines share or in its
    own.
    """
    from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped]

    for name in (CONFIG, f"{CONFIG}.local"):
        with suppress(ConfigObjError, OSError, UnicodeDecodeError):
            settings = ConfigObj(str(root / name), encoding="utf-8", interpolation=False)
            if settings.get("core", {}).get("remote"):
                return True
    return False


def pointer(digest: str, plan: Path) -> bytes:
    """What DVC reads of a file that it keeps."""
    size = plan.stat().st_size
    text = f"outs:\n- md5: {digest}\n  size: {size}\n  hash: md5\n  path: {plan.name}\n"
    return text.encode()


def pointed_at(content: bytes) -> str:
    """The digest in a pointer.

    Raises:
        ValueError: there is none; the text goes on after the file's name.
    """
    try:
        [output] = yaml12.load(content)["outs"]
        digest = str(output["md5"])
    except (KeyError, TypeError, ValueError):
        raise ValueError("is no pointer of DVC's") from None
    if not _MD5.fullmatch(digest):
        raise ValueError(f"names {digest!r}, which is no digest")
    return digest


def _shared_config(repository: object, remote: Remote) -> bytes:
    """What the project's committed settings say of the remote; a folder by its whole path."""
    settings = repository.config.load_one("repo")  # type: ignore[attr-defined]
    section = settings["remote"].get(remote.name)
    if not section:
        what = f"other machines do not know the DVC remote {remote.name}: .dvc/config lacks it"
        cure = f"Add it there: dvc remote add --default {remote.name} URL, and commit .dvc/config"
        raise EngineryError(what, cure)
    return _text(
        {"core": {"remote": remote.name}, _key(remote.name): {**section, "url": remote.url}}
    )


def _without_git(config: bytes) -> bytes:
    """The remote of a configuration, and no other setting, for a folder outside of git.

    Raises:
        EngineryError: it is none.
    """
    from configobj import ConfigObj, ConfigObjError

    try:
        settings = ConfigObj(io.BytesIO(config), encoding="utf-8", interpolation=False)
        name = settings["core"]["remote"]
        remote = dict(settings[_key(name)])
    except (ConfigObjError, KeyError, TypeError, ValueError):
        what = f"the registry's {CONFIG} names no DVC remote"
        cure = "Publish again from a project that has one (`dvc remote add --default`)"
        raise EngineryError(what, cure) from None
    return _text({"core": {"remote": name, "no_scm": "true"}, _key(name): remote})


def _text(sections: Mapping[str, Mapping[str, str]]) -> bytes:
    from configobj import ConfigObj

    settings, written = ConfigObj(interpolation=False), io.BytesIO()
    settings.update(sections)
    settings.write(written)
    return written.getvalue()


def _key(remote: str) -> str:
    return f'remote "{remote}"'


def _failed(name: str, url: str, error: Exception) -> EngineryError:
    what = f"the DVC remote {name} ({url}) fails: {str(error) or type(error).__name__}"
    return EngineryError(what, "Look at its address and your rights there, then run again")
