"""The versions of an upgrade: an earlier commit, the present sources, and a later version.

Each is a tree of sources with operator/, crds/ and manifests/. Its operator runs with the packages
of the present virtual environment.
"""

import copy
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from crds.generate import core_definitions
from initpipeline.api.raw import Raw
from tests import kubectl
from tests.cluster.cluster import Cluster

ROOT: Final = Path(__file__).parents[2]
FOLDERS: Final = ("operator", "crds", "manifests")
SECONDS: Final = 60.0

DEFAULT_FROM: Final = "447d639"
"""The first commit that limits the rate of runs. It has the Lease, and an older schema of spec and
status: without logTails, and with closed enumerations."""


class VersionError(Exception):
    """A version cannot be made. The message is one line, and has the remedy."""


@dataclass(frozen=True)
class Version:
    """A version of the operator and its CRD."""

    name: str
    root: Path
    age: int
    """The order of the versions: 0 is that of these sources."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which ``python -m initpipeline`` runs this version's operator."""
        return {"PYTHONPATH": str(self.root / "operator")}

    @cached_property
    def crd(self) -> Raw:
        """The CRD of this version."""
        document: Raw = yaml.safe_load((self.root / "crds" / "initpipelines.yaml").read_text())
        return document

    @property
    def objects(self) -> list[Raw]:
        """All objects of its manifests/base but the Deployment: the operator runs as a process."""
        text = kubectl.run(
            [str(kubectl.program()), "kustomize", str(self.root / "manifests" / "base")]
        )
        return [one for one in yaml.safe_load_all(text) if one["kind"] != "Deployment"]

    def run(self, program: str, stdin: str = "", *more: Path) -> str:
        """Run a Python program with this version's package, and return its output."""
        path = os.pathsep.join(map(str, (self.root / "operator", *more)))
        completed = subprocess.run(
            [sys.executable, "-c", program],
            input=stdin,
            env={**os.environ, "PYTHONPATH": path},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if completed.returncode:
            last = completed.stderr.strip().rpartition("\n")[2]
            raise VersionError(
                f"{self.name} does not run with the packages of this environment: {last}"
            )
        return completed.stdout

    def checked(self) -> "Version":
        """Return the version itself. Raises VersionError if another operator would run."""
        found = self.run("import initpipeline.runtime.main as main; print(main.__file__)").strip()
        if not Path(found).is_relative_to(self.root):
            raise VersionError(f"{self.name} would run the operator in {found}")
        return self


def present() -> Version:
    """Return the version of these sources."""
    return Version("present", ROOT, 0).checked()


def earlier(commit: str, folder: Path) -> Version:
    """Return the version of a commit, which is extracted to the folder.

    Raises VersionError if the repository does not have the commit, as in a shallow clone.
    """
    archived = subprocess.run(
        ["git", "-C", str(ROOT), "archive", commit, *FOLDERS],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    if archived.returncode:
        why = archived.stderr.decode().strip().rpartition("\n")[2]
        raise VersionError(
            f"commit {commit} cannot be read ({why}): fetch the history with 'git fetch "
            "--unshallow', or choose another commit with FROM=COMMIT"
        )
    with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return Version(f"earlier ({commit})", folder, -1).checked()


FIELD: Final = "futurePolicy"
"""A field of a PodSpec that only the Kubernetes of the later version has."""

VALUES: Final[Mapping[str, str]] = {
    "ConditionType": "Future",
    "Reason": "FutureRunning FutureFailed",
    "Trigger": "Asked",
    "Result": "WasInitialized",
    "RerunPolicy": "OnFuture",
}
"""The values that the later version adds to each enumeration."""


def _member(value: str) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", value).upper()
    return f'    {name} = "{value}"\n    """A value of the later version."""\n'


def _optional(name: str, type_: str = "Identifier | None", default: str = "None") -> str:
    return f'    {name}: {type_} = Field({default}, description="Of the later version.")\n'


def _before(line: str, *added: str) -> tuple[str, str]:
    return line, "".join(added) + line


CHANGES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "__init__.py": (('__version__ = "', '__version__ = "1'),),
    "api/reasons.py": (
        _before('    IN_PLACE_UNAVAILABLE = "InPlaceUnavailable"', _member("Future")),
        _before(
            '    POD_PENDING = "PodPending"', _member("FutureRunning"), _member("FutureFailed")
        ),
        _before('    CREATED = "Created"', _member("Asked")),
        _before('    SUCCEEDED = "Succeeded"', _member("WasInitialized")),
        _before('    ON_POD_LOSS = "OnPodLoss"', _member("OnFuture")),
    ),
    "api/triggers.py": (
        _before(
            "    Trigger.REQUESTED: TriggerRow(",
            '    Trigger.ASKED: TriggerRow(Starter.USER, "a user has asked for it"),\n',
        ),
    ),
    "api/models.py": (
        _before("    number: Annotated[int, Field(ge=1", _optional("future_fact")),
        _before(
            "    completed_init_containers: tuple[",
            _optional("future_count", "NonNegativeInt32", "0"),
        ),
        _before("    result: Result = Field(", _optional("future_record")),
        _before("    pod_name: Identifier | None", _optional("future_status")),
        _before("    suspend: bool = Field(", _optional("future_limit", "NonNegativeInt32", "3")),
    ),
    # A field of a Pod with a default gives all templates another hash.
    "core/template.py": (
        ('        "dnsPolicy": "ClusterFirst",', f'"dnsPolicy": "ClusterFirst", "{FIELD}": "Any",'),
    ),
    "core/triggers.py": (
        ("DueRun(Trigger.REQUESTED)", "DueRun(Trigger.ASKED)"),
        (
            "frozenset({Result.INITIALIZED,",
            "frozenset({Result.WAS_INITIALIZED, Result.INITIALIZED,",
        ),
    ),
    "core/status.py": (
        ("in {None, Trigger.REQUESTED}", "in {None, Trigger.ASKED}"),
        ("        run=state.run,\n", '        run=state.run,\n        future_status="kept",\n'),
    ),
    "core/runs.py": (
        ("Run(number=1, ", 'Run(number=1, future_fact="kept", future_count=1, '),
        (
            "        number=state.run.number + 1,\n",
            '        number=state.run.number + 1, future_fact="kept", future_count=1,\n',
        ),
        (
            "end(state, Result.INITIALIZED, now, failed",
            "end(state, Result.WAS_INITIALIZED, now, failed",
        ),
        ("history=(record, *older)", 'history=(evolve(record, future_record="kept"), *older)'),
    ),
    "core/explanations.py": (
        ("Reason.STEP_RUNNING", "Reason.FUTURE_RUNNING"),
        ("Reason.STEP_FAILED", "Reason.FUTURE_FAILED"),
    ),
    "core/conditions.py": (
        _before(
            "    if inputs.suspended:\n",
            "    rows.append((ConditionType.FUTURE, True, inputs.initialized_why))\n",
        ),
    ),
}
"""How the sources of the later version differ, by file: each first text is replaced."""

GENERATE: Final = """
import json, sys
from crds import meanings
from initpipeline.api.crd import custom_resource_definition
core = json.load(sys.stdin)
json.dump(custom_resource_definition(core, meanings.of_values()), sys.stdout)
"""


def later(folder: Path, cluster: Cluster) -> Version:
    """Return a later version, which is made in the folder from the present sources.

    It writes values and fields that the present version does not know. Its CRD is generated by its
    own generator, from a Kubernetes schema that has another field.
    """
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / "operator" / "initpipeline"
    for file, changes in CHANGES.items():
        text = (package / file).read_text()
        for old, new in changes:
            if old not in text:
                raise VersionError(f"{file} does not have {old!r}: adapt {Path(__file__).name}")
            text = text.replace(old, new)
        (package / file).write_text(text)
    version = Version("later", folder, 1).checked()
    core = json.dumps(_with_field(core_definitions(cluster)))
    generated = version.run(GENERATE, core, folder, ROOT)
    (folder / "crds" / "initpipelines.yaml").write_text(generated)
    return version


def _with_field(core: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schemas of core/v1 with another field of a PodSpec, which has a default."""
    changed = copy.deepcopy(dict(core))
    fields = changed["io.k8s.api.core.v1.PodSpec"]["properties"]
    fields[FIELD] = {"type": "string", "default": "Any", "description": "Of a later Kubernetes."}
    return changed
