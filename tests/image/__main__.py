"""Build the operator's image, and import it into a test cluster (make image)."""

import argparse
import sys

from tests.cluster.cluster import DEFAULT_NAME, Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.progress import Lines, heartbeat
from tests.image.build import IMAGE, Request, built


def main() -> int:
    """Run the command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument(
        "--name",
        default=DEFAULT_NAME,
        help="name of the cluster that gets the image (default: %(default)s)",
    )
    parser.add_argument(
        "--base",
        help="base image in a registry, NAME:TAG@sha256:... (default: built from Debian packages)",
    )
    parser.add_argument(
        "--suite",
        help="make the base of the packages of this release of the distribution (default: its own)",
    )
    options = parser.parse_args()
    try:
        _build_and_import(options.name, Request(base=options.base, suite=options.suite))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _build_and_import(name: str, request: Request) -> None:
    progress = Lines()
    cluster = Cluster.of(name, progress)
    archive = built(progress, request)
    progress(f"built {IMAGE}: {archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    if not cluster.is_up():
        progress(f"cluster {name} is not up: to import the image, start it and run make image")
        return
    with heartbeat(progress, f"importing the image into cluster {name}"):
        cluster.import_image(archive)
    progress("to install the operator: kubectl apply -k manifests/base")
    progress("to update it: kubectl -n initpipeline-system rollout restart deploy/initpipeline")


if __name__ == "__main__":
    sys.exit(main())
