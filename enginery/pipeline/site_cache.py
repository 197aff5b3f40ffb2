"""Where DVC keeps what it remembers of files: a folder of the checkout that no other user enters.

DVC's own choice, /var/tmp/dvc, is open to everybody, and DVC unpickles what lies there.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from enginery.system.files import atomic_write

VARIABLE = "DVC_SITE_CACHE_DIR"
_LOCAL_CONFIG = Path(".dvc/config.local")
_NAME = ".dvc/tmp/site-"


def private_site_cache(root: Path) -> str:
    """The folder, made and closed to others; or the one that the user names by DVC's variable."""
    if named := os.environ.get(VARIABLE):
        return named
    folder = root.resolve() / f"{_NAME}{os.geteuid()}"
    _close(folder)
    _tell_dvc(root / _LOCAL_CONFIG, folder)
    return str(folder)


def _close(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        info = folder.lstat()
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o077:
            return
        if stat.S_ISDIR(info.st_mode):  # others could write here: nothing in it is to be believed
            shutil.rmtree(folder)
        else:
            folder.unlink()
    folder.mkdir(mode=0o700)
    (folder / "repo").mkdir(mode=0o700)  # DVC would open it to everybody


def _tell_dvc(config: Path, folder: Path) -> None:
    """Name the folder to a DVC that is started by hand, too: by its whole path, since DVC takes
    another from where it is started.
    """
    from configobj import ConfigObj, ConfigObjError  # type: ignore[import-untyped]  # DVC brings it

    with suppress(
        PermissionError, ConfigObjError
    ):  # another user's checkout; what is no configuration, DVC itself refuses
        settings = ConfigObj(str(config), encoding="utf-8", interpolation=False)
        core = settings.setdefault("core", {})
        known = str(core.get("site_cache_dir", ""))
        if known == str(folder) or (known and _NAME not in known):
            return
        core["site_cache_dir"] = str(folder)
        with atomic_write(config) as partial:
            if config.exists():
                shutil.copyfile(config, partial)
                shutil.copymode(config, partial)  # it may hold a remote's password
            with partial.open("wb") as file:
                settings.write(file)
