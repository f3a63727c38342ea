"""A load balancer in front of the API server that closes each connection after some seconds."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml

CHUNK_BYTES = 1 << 16


@contextlib.contextmanager
def cutting_proxy(kubeconfig: Path, file: Path, seconds: float) -> Iterator[Path]:
    """Write a kubeconfig for the same cluster through a proxy that cuts connections.

    The proxy closes each connection after `seconds`, even in the middle of a response.
    """
    document = yaml.safe_load(kubeconfig.read_text())
    server = urlsplit(document["clusters"][0]["cluster"]["server"])
    assert server.hostname is not None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        upstream = (server.hostname, server.port or 443)
        serving = threading.Thread(target=_serve, args=(listening, upstream, seconds), daemon=True)
        serving.start()
        document["clusters"][0]["cluster"]["server"] = (
            f"https://127.0.0.1:{listening.getsockname()[1]}"
        )
        file.write_text(yaml.safe_dump(document))
        try:
            yield file
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listening: socket.socket, upstream: tuple[str, int], seconds: float) -> None:
    """Accept connections until the listening socket is closed."""
    with contextlib.suppress(OSError):
        while True:
            near, _ = listening.accept()
            pair = (near, socket.create_connection(upstream))
            threading.Thread(target=_connect, args=(pair, seconds), daemon=True).start()


def _connect(pair: tuple[socket.socket, socket.socket], seconds: float) -> None:
    near, far = pair
    with near, far:
        cut = threading.Timer(seconds, _end, args=pair)
        back = threading.Thread(target=_copy, args=(far, near))
        for one in (cut, back):
            one.daemon = True
            one.start()
        _copy(near, far)
        back.join()
        cut.cancel()
        cut.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
    _end(source, sink)


def _end(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
