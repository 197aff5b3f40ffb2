"""A name and a home for users who have none, as containers run them: a number that no passwd entry
knows, HOME unset or leading nowhere.

torch asks for the name; Prefect, DVC, Ultralytics and matplotlib write into the home. Each would
fail in its own way.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

CHECKOUT, HOME = Path(".dvc"), Path(".dvc/tmp/home")
_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # as getpass reads them
_WRITTEN = {
    "PREFECT_HOME": "prefect",
    "MPLCONFIGDIR": "matplotlib",
    "YOLO_CONFIG_DIR": "ultralytics",
    "XDG_CACHE_HOME": "cache",
}


def ensure_home() -> str:
    """Set what is missing in the environment, for this process and its children; returns what to
    tell, or nothing.

    A home that is there and is only not writable stays the home: it may hold keys and settings.
    What writes gets other folders.
    """
    entry = _passwd_entry()
    if entry is None and not any(os.environ.get(name) for name in _NAMES):
        os.environ["USER"] = os.environ["LOGNAME"] = f"user{os.getuid()}"
    home = Path(os.environ.get("HOME") or (entry.pw_dir if entry else ""))
    if not CHECKOUT.is_dir() or (home.is_absolute() and os.access(home, os.W_OK | os.X_OK)):
        return ""
    HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    if home.is_absolute() and home.is_dir():
        if all(name in os.environ for name in _WRITTEN):
            return ""
        for name, folder in _WRITTEN.items():
            os.environ.setdefault(name, str(HOME.absolute() / folder))
        return f"the home folder {home} is not writable: {HOME} takes what would be written there"
    os.environ["HOME"] = str(HOME.absolute())
    return (
        f"this user has no home folder{f' ({home} is none)' if home.is_absolute() else ''}: {HOME} "
        "is used"
    )


def _passwd_entry() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        return None
