"""Back up etcd, and restore it as an administrator would: the API server is stopped meanwhile."""

import base64
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component


def backup(cluster: Cluster, folder: Path) -> None:
    """Copy the data of etcd. The process is paused meanwhile, as for a snapshot of its volume."""
    pid = cluster.pid(Component.ETCD)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        shutil.copytree(cluster.layout.data, folder)
    finally:
        os.kill(pid, signal.SIGCONT)


def restore(cluster: Cluster, folder: Path, bump: bool) -> None:
    """Restore the data of etcd, and restart the API server.

    With ``bump``, the revision is higher than before, and all earlier ones are compacted, as with
    ``etcdutl snapshot restore --bump-revision --mark-compacted``.
    """
    before = _revision(cluster)
    cluster.stop(Component.API_SERVER)
    cluster.stop(Component.ETCD)
    shutil.rmtree(cluster.layout.data)
    shutil.copytree(folder, cluster.layout.data)
    cluster.start(Component.ETCD)
    if bump:
        while (revision := _revision(cluster)) <= before + 10:
            _put(cluster)
        _call(cluster, "kv/compaction", {"revision": str(revision)})
    cluster.start(Component.API_SERVER)


def _revision(cluster: Cluster) -> int:
    return int(_call(cluster, "kv/range", {"key": _KEY})["header"]["revision"])


def _put(cluster: Cluster) -> None:
    _call(cluster, "kv/put", {"key": _KEY, "value": _KEY})


def _call(cluster: Cluster, method: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(f"{cluster.etcd}/v3/{method}", json.dumps(body).encode())
    with urlopen(request, timeout=10) as response:
        return dict(json.loads(response.read()))


_KEY = base64.b64encode(b"/revision").decode()
