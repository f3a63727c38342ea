"""Compares the pinned packages with the published vulnerabilities: ``make audit``."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cluster.errors import ClusterError


def audit(lock: Path) -> list[str]:
    """Return a line for each known vulnerability of the pinned packages.

    Raise ClusterError if the database gives no answer for a package. pip-audit skips such packages,
    so that an index without vulnerability data would look like an index without vulnerabilities.
    """
    answer = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", str(lock)),
            *("--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        packages = json.loads(answer.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (answer.stderr.strip() or "no output").splitlines()[-1]
        raise ClusterError(f"no vulnerability data: pip-audit failed: {last[:200]}") from None
    return judged(packages, lock)


def judged(packages: list[dict[str, object]], lock: Path) -> list[str]:
    """Return the vulnerabilities in pip-audit's list of packages. Raise ClusterError as `audit`."""
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped or not packages:
        raise ClusterError(
            f"no vulnerability data for {len(skipped)} of {len(packages)} packages of {lock.name}: "
            "follow docs/release.md, Audit"
        )
    return [
        f"{package['name']} {package['version']}: {found['id']}, fixed in "
        f"{', '.join(found['fix_versions']) or 'no version'}"
        for package in packages
        for found in package["vulns"]  # type: ignore[attr-defined]
    ]
