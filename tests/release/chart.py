"""The package of the Helm chart."""

import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.cluster.build import built
from tests.cluster.helm import HELM
from tests.cluster.progress import Progress
from tests.release.archives import tar_gz
from tests.release.commands import run

CHART: Final = "manifests/chart"


def chart(project: Path, folder: Path, progress: Progress) -> Path:
    """Package the chart. Helm puts the present time into the archive, so it is written again."""
    helm = built(HELM, progress) / "helm"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".chart-") as temporary:
        run([helm, "package", project / CHART, "--destination", temporary])
        [package] = Path(temporary).glob("*.tgz")
        contents = {}
        with tarfile.open(package) as archive:
            for member in archive:
                if data := archive.extractfile(member):
                    contents[member.name] = data.read()
        file = folder / package.name
    tar_gz(file, contents, frozenset())
    return file
