"""What the browser needs: Debian's Chromium, its driver and a font, and axe-core from npm."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.cluster import debian
from tests.cluster.errors import ClusterError
from tests.cluster.locks import locked
from tests.cluster.paths import cache_root

_AXE: Final = Path(__file__).with_name("axe")
"""The pinned version of axe-core."""
_FONTS: Final = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{fonts}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{cache}</cachedir>
  <match>
    <edit name="family" mode="append_last"><string>Liberation Sans</string></edit>
  </match>
  <alias><family>system-ui</family><prefer><family>Liberation Sans</family></prefer></alias>
  <alias><family>sans-serif</family><prefer><family>Liberation Sans</family></prefer></alias>
  <alias><family>ui-monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
</fontconfig>
"""


def chromium() -> debian.Packages:
    """Return the unpacked packages of Chromium and its driver. Fetch them if they are missing."""
    return _unpacked("chromium-driver")


def axe() -> str:
    """Return the script of axe-core. Fetch it with npm if it is missing."""
    pinned = (_AXE / "package-lock.json").read_bytes()
    folder = cache_root() / f"axe-{hashlib.sha256(pinned).hexdigest()[:16]}"
    cache_root().mkdir(parents=True, exist_ok=True)
    with locked(cache_root() / ".axe.lock"):
        if not folder.is_dir():
            _install(folder)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the driver and the browser, with the files in this folder."""
    fonts = folder / "fonts.conf"
    directory = _unpacked("fonts-liberation").root / "usr/share/fonts"
    fonts.write_text(_FONTS.format(fonts=directory, cache=folder / "fonts"))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LD_LIBRARY_PATH": chromium().library_path,
        "FONTCONFIG_FILE": str(fonts),
    }


def _unpacked(package: str) -> debian.Packages:
    cache_root().mkdir(parents=True, exist_ok=True)
    with locked(cache_root() / f".{package}.lock"):
        return debian.with_dependencies(package)


def _install(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache_root(), prefix=".axe-") as temporary:
        made = Path(temporary) / "made"
        shutil.copytree(_AXE, made)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        answer = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise ClusterError(f"npm ci failed: {' '.join(answer.stderr.split())[-400:]}")
        made.rename(folder)
