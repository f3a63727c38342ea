"""`python -m tests.image`, which is `make image`: build the image, and give it to a cluster."""

import argparse
import sys

from tests.cluster.cluster import DEFAULT_NAME, Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines, heartbeat
from tests.image.build import IMAGE, built


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument(
        "--name", default=DEFAULT_NAME, help="of the cluster to import into: %(default)s"
    )
    options = parser.parse_args()
    try:
        _build_and_import(options.name)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _build_and_import(name: str) -> None:
    progress = Lines()
    cluster = Cluster.of(name, progress)
    archive = built(progress)
    progress(f"{IMAGE} is built: {archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    if not cluster.is_up():
        progress(f"imported nowhere, since cluster {name} is not up. When it is: make image")
        return
    with heartbeat(progress, f"importing it into cluster {name}"):
        cluster.import_image(archive)
    progress("to run it: kubectl apply -k manifests/base")
    progress("where it runs: kubectl -n initpipeline-system rollout restart deploy/initpipeline")


if __name__ == "__main__":
    sys.exit(main())
