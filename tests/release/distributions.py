"""The wheel and the sdist."""

import sys
from pathlib import Path

from tests.image.source import Source
from tests.release.commands import run


def distributions(project: Path, folder: Path, commit: Source) -> list[Path]:
    """Build the sdist, and the wheel from the sdist. Return both. Nothing is downloaded."""
    run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, project],
        {"SOURCE_DATE_EPOCH": str(commit.epoch), "PIP_NO_INDEX": "1"},
    )
    return sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
