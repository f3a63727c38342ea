"""Images without a registry: built here from a static program, or read from files.

An image file is a tar as written by `docker save` or `buildah push docker-archive:`.
"""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.build import PAUSE
from tests.cluster.debian import packages

PAUSE_IMAGE: Final = "localhost/pause:1"
# The tags that public manifests use. "busybox" is short for busybox:latest.
BUSYBOX_TAGS: Final = ("latest", "stable", "1", "1.28", "1.35", "1.36", "1.37")
BUSYBOX_IMAGES: Final = tuple(f"docker.io/library/busybox:{tag}" for tag in BUSYBOX_TAGS)
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
ACCOUNTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


@dataclass(frozen=True)
class Image:
    """An image of one layer."""

    names: Sequence[str]
    layer: bytes
    config: dict[str, Any]

    def write(self, path: Path, machine: str) -> Path:
        """Write it as a docker-archive and return the path."""
        layer_digest = hashlib.sha256(self.layer).hexdigest()
        config = json.dumps(
            {
                "architecture": ARCHITECTURES[machine],
                "os": "linux",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            }
        ).encode()
        config_name = f"{hashlib.sha256(config).hexdigest()}.json"
        layers = [f"{layer_digest}/layer.tar"]
        manifest = [{"Config": config_name, "RepoTags": list(self.names), "Layers": layers}]
        with tarfile.open(path, "w") as archive:
            _add(archive, config_name, config)
            _add(archive, layers[0], self.layer)
            _add(archive, "manifest.json", json.dumps(manifest).encode())
        return path


def pause_image() -> Image:
    """Return the image of a Pod's sandbox."""
    program = (PAUSE.cached() / PAUSE.name).read_bytes()
    return Image((PAUSE_IMAGE,), _layer({"pause": program}), {"Entrypoint": ["/pause"]})


def busybox_image() -> Image:
    """Return an image of Debian's static busybox with all its commands, under the usual names."""
    busybox = packages().busybox
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    commands = [name for name in listed.stdout.split() if name != "busybox"]
    files = {"bin/busybox": busybox.read_bytes()}
    files |= {path: text.encode() for path, text in ACCOUNTS.items()}
    path = "PATH=/bin:/sbin:/usr/bin:/usr/sbin"
    return Image(BUSYBOX_IMAGES, _layer(files, commands), {"Cmd": ["sh"], "Env": [path]})


def _layer(files: dict[str, bytes], commands: Sequence[str] = ()) -> bytes:
    """Return a root filesystem: programs, and a hard link to busybox for each command."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777}.items():
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, content in files.items():
            _add(tar, name, content, mode=0o644 if name.startswith("etc/") else 0o755)
        for command in commands:
            entry = tarfile.TarInfo(f"bin/{command}")
            entry.type, entry.linkname, entry.mode = tarfile.LNKTYPE, "bin/busybox", 0o755
            tar.addfile(entry)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
