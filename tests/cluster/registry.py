"""An image registry that serves the images of the node only.

If a Pod has the pull policy Always (the default of `image: busybox` without a tag), containerd
resolves the image in a registry, even if the node has it. This registry replaces all others. It
serves the imported images from containerd's store, and answers 404 for all others.
"""

import re
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from tests.cluster.errors import ClusterError
from tests.cluster.node import Node
from tests.cluster.paths import HERE, Layout
from tests.cluster.plan import recorded
from tests.cluster.runtime import REGISTRY_PORT, Containerd, Image

MANIFEST: Final = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")
BLOB: Final = re.compile(r"/v2/.+/blobs/(?P<digest>sha256:[0-9a-f]{64})")
MODULE: Final = "tests.cluster.registry"
OCTETS: Final = "application/octet-stream"


def command(name: str) -> list[str]:
    """Return the command line that runs the registry of the cluster of that name."""
    python_path = f"PYTHONPATH={HERE.parent.parent}"
    return ["/usr/bin/env", python_path, sys.executable, "-m", MODULE, name]


@dataclass(frozen=True)
class Content:
    """A response body: a file of containerd's store."""

    file: Path
    media_type: str
    digest: str


@dataclass(frozen=True)
class Registry:
    """Finds manifests and blobs in one node's containerd."""

    containerd: Containerd

    def find(self, path: str, registry: str) -> Content | None:
        """Return the content at a path of the registry of that name. None if it does not exist."""
        blob = BLOB.fullmatch(path)
        if blob:
            return self._content(blob["digest"], OCTETS)
        manifest = MANIFEST.fullmatch(path)
        if manifest:
            image = self._image(f"{registry}/{manifest['name']}", manifest["reference"])
            return self._content(image.digest, image.media_type) if image else None
        return None

    def _image(self, name: str, reference: str) -> Image | None:
        images: Mapping[str, Image] = {image.name: image for image in self.containerd.images()}
        if not reference.startswith("sha256:"):
            return images.get(f"{name}:{reference}")
        same = (image for image in images.values() if image.digest == reference)
        return next(same, None)

    def _content(self, digest: str, media_type: str) -> Content | None:
        file = self.containerd.blob(digest)
        return Content(file, media_type, digest) if file.exists() else None


class Handler(BaseHTTPRequestHandler):
    """The read requests of the registry protocol."""

    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_HEAD(self) -> None:
        """Send the headers."""
        self._answer()

    def do_GET(self) -> None:
        """Send the headers and the content."""
        content = self._answer()
        if content:
            with content.file.open("rb") as source:
                while chunk := source.read(1 << 20):
                    self.wfile.write(chunk)

    def _answer(self) -> Content | None:
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/v2/":
            self._headers(HTTPStatus.OK, {"Content-Length": "0"})
            return None
        registry = urllib.parse.parse_qs(url.query).get("ns", [""])[0]
        try:
            content = self.registry.find(url.path, registry)
        except ClusterError as error:  # a test may have stopped containerd
            self.log_error("%s", error)
            content = None
        if content is None:
            self._headers(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return None
        headers = {
            "Content-Length": str(content.file.stat().st_size),
            "Content-Type": content.media_type,
            "Docker-Content-Digest": content.digest,
        }
        self._headers(HTTPStatus.OK, headers)
        return content

    def _headers(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def serve(name: str) -> None:
    """Serve until the process is killed."""
    layout = Layout.of(name)
    plan = recorded(layout)
    if plan is None or plan.network is None:
        raise ClusterError(f"there is no cluster {name} with a node")
    Handler.registry = Registry(Containerd(Node(name, layout)))
    with ThreadingHTTPServer((str(plan.network.host), REGISTRY_PORT), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    serve(sys.argv[1])
