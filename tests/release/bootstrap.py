"""Starts the single-file plugin: the ``__main__`` of the archive.

Python cannot load compiled modules from a zip archive. The first start therefore extracts the
packages into the user's cache, in a folder named after the contents. Later starts use that folder.
This file is in the archive without the rest of the repository, so it imports only the standard
library. Python 3.6 can parse it, so that an old Python prints which version is needed.
"""

import atexit
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

DIGEST = "@DIGEST@"
TAGS = "@TAGS@"
"""Tags of CPython, such as "cp311 cp312". make release fills in both constants."""


def main() -> None:
    """Run the plugin, or its completion if the file has the name that kubectl uses for it."""
    tag = "cp{}{}{}".format(*sys.version_info[:2], getattr(sys, "abiflags", ""))
    tags = TAGS.split()
    if sys.implementation.name != "cpython" or tag not in tags:
        known = ", ".join(f"3.{each[3:]}" for each in tags)
        sys.exit(
            f"error: this file runs on CPython {known}, not on {sys.version.split()[0]}: "
            "start it with another python3, or install the plugin with pipx"
        )
    sys.path[0] = str(extracted(tag))
    if Path(sys.argv[0]).name.startswith("kubectl_complete"):
        from initpipeline.plugin.completion import main as program
    else:
        from initpipeline.plugin.main import main as program
    sys.exit(program())


def extracted(tag: str) -> Path:
    """Return the folder with the packages. If the cache is not writable, a temporary folder."""
    cache = os.environ.get("XDG_CACHE_HOME")
    parent = (Path(cache) if cache else Path("~/.cache").expanduser()) / "initpipeline-plugin"
    folder = parent / f"{DIGEST}-{tag}"
    if is_own(folder):
        return folder
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=str(parent)))
    except (OSError, RuntimeError):
        return unpacked_for_now(Path(tempfile.mkdtemp(prefix="initpipeline-plugin-")), tag)
    unpack(made, tag)
    try:
        made.rename(folder)
    except OSError:  # another process was faster, or the folder belongs to another user
        if not is_own(folder):
            return unpacked_for_now(made, tag)
        shutil.rmtree(str(made), ignore_errors=True)
    return folder


def unpacked_for_now(folder: Path, tag: str) -> Path:
    """Extract into a folder that is deleted when the plugin ends."""
    atexit.register(shutil.rmtree, str(folder), ignore_errors=True)
    unpack(folder, tag)
    return folder


def is_own(folder: Path) -> bool:
    """Return whether only this user can have written the folder."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return folder.is_dir() and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def unpack(folder: Path, tag: str) -> None:
    """Extract the packages, and the modules that are compiled for this Python."""
    with zipfile.ZipFile(str(Path(__file__).parent)) as archive:
        for prefix in ("site/", f"compiled/{tag}/"):
            for member in archive.infolist():
                if member.filename.startswith(prefix):
                    member.filename = member.filename[len(prefix) :]
                    archive.extract(member, str(folder))


if __name__ == "__main__":
    main()
