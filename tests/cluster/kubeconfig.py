"""Write kubeconfigs that contain their certificates, so that a client needs one file only."""

import base64
from pathlib import Path

import yaml

from tests.cluster.certificates import Authority, Pair


def write(path: Path, server: str, authority: Authority, user: Pair) -> Path:
    """Write a kubeconfig that authenticates a client as that user, and return its path."""
    name = "initpipeline"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _encoded(authority.pair.certificate),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _encoded(user.certificate),
                    "client-key-data": _encoded(user.key),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
