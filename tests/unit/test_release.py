"""What a release contains: versions, archives, licences, audit, krew manifest and workflows."""

import ast
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from initpipeline import __version__
from tests.cluster.errors import ClusterError
from tests.cluster.progress import silent
from tests.image.build import DIGEST, Request
from tests.image.source import PROJECT, Source
from tests.release import licenses
from tests.release.archives import tar_gz, zip_of
from tests.release.audit import judged
from tests.release.chart import CHART
from tests.release.distributions import distributions
from tests.release.lock import locked_packages
from tests.release.plugin import (
    COMPILED,
    PLATFORMS,
    ROOTS,
    SHEBANG,
    Plugin,
    krew_manifest,
    packages_of_plugin,
)
from tests.release.sbom import bill_of_materials

COMMIT: Final = Source("0" * 40, 1_700_000_000, changed=False)
LOCK: Final = PROJECT / "requirements.txt"
WORKFLOWS: Final = sorted((PROJECT / ".github" / "workflows").glob("*.yml"))
OTHER_COMMANDS: Final = ("apt-get", "cosign", "gh", "sha256sum", "skopeo")
"""The programs that a workflow may run, besides targets of the Makefile."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Builds the wheel and the sdist, and returns both."""
    wheel, sdist = distributions(PROJECT, tmp_path_factory.mktemp("dist"), COMMIT)
    return wheel, sdist


def names_in(sdist: Path) -> set[str]:
    """Returns the files of an sdist, without its top folder."""
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_manifests_have_the_version_of_the_package() -> None:
    base = yaml.safe_load((PROJECT / "manifests/base/kustomization.yaml").read_text())
    assert [image["newTag"] for image in base["images"]] == [__version__]
    chart = PROJECT / CHART / "Chart.yaml"
    if chart.exists():
        found = yaml.safe_load(chart.read_text())
        assert (found["version"], found["appVersion"]) == (__version__, __version__)


def test_wheel_has_package_license_and_types_only(built: tuple[Path, Path]) -> None:
    wheel, _ = built
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = f"initpipeline-{__version__}.dist-info"
    assert {"initpipeline/py.typed", f"{folder}/licenses/LICENSE"} <= names
    assert {name.split("/")[0] for name in names} == {"initpipeline", folder}
    assert not [name for name in names if "test" in name or "__pycache__" in name]


def test_sdist_has_package_crd_and_license_only(built: tuple[Path, Path]) -> None:
    _, sdist = built
    outside = {name for name in names_in(sdist) if not name.startswith("operator/initpipeline/")}
    assert outside == {
        *("crds/initpipelines.yaml", "README.md", "LICENSE"),
        *("pyproject.toml", "PKG-INFO", ".gitignore"),
    }


def test_sdist_builds_the_same_wheel_offline(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    project = tmp_path / f"initpipeline-{__version__}"
    again, _ = distributions(project, tmp_path / "dist", COMMIT)
    assert again.read_bytes() == wheel.read_bytes()


def test_archives_do_not_depend_on_the_order_of_files(tmp_path: Path) -> None:
    contents = {"b": b"2", "a": b"1"}
    reverse = dict(reversed(contents.items()))
    assert zip_of(contents) == zip_of(reverse)
    first, second = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    tar_gz(first, contents, frozenset({"a"}))
    tar_gz(second, reverse, frozenset({"a"}))
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert {member.name: member.mode for member in archive} == {"a": 0o755, "b": 0o644}


def test_lock_file_is_read_with_all_hashes() -> None:
    found = locked_packages(LOCK)
    assert len(found) == len(re.findall(r"^\S+==", LOCK.read_text(), re.MULTILINE))
    text = "".join(each.text for each in found.values())
    assert text.count("--hash=") == LOCK.read_text().count("--hash=")


def test_page_of_licenses_is_the_generated_one() -> None:
    assert licenses.FILE.read_text() == licenses.page(licenses.licenses())


@pytest.mark.parametrize(
    ("expression", "bad"),
    [
        ("MIT", []),
        ("Apache-2.0 AND MIT", []),
        ("(MIT OR BSD-3-Clause)", []),
        ("GPL-3.0-only", ["GPL-3.0-only"]),
        ("AGPL-3.0-or-later", ["AGPL-3.0-or-later"]),
        ("LGPL-2.1-or-later", ["LGPL-2.1-or-later"]),
        ("MIT AND GPL-2.0-only WITH x-exception", ["GPL-2.0-only", "x-exception"]),
    ],
)
def test_license_outside_of_the_list_is_refused(expression: str, bad: list[str]) -> None:
    assert licenses.refused(expression) == bad


def test_license_that_is_not_an_identifier_is_refused() -> None:
    """kubetest is a package of the tests only."""
    with pytest.raises(ClusterError, match=r"unknown licence: GNU General Public License v3\.0"):
        licenses.license_of("kubetest")


def test_list_of_packages_is_complete_and_has_no_time_of_its_own() -> None:
    text = bill_of_materials(PROJECT, __version__, COMMIT)
    document = yaml.safe_load(text)
    found = {each["name"]: each["version"] for each in document["components"]}
    assert found == {each.name: each.version for each in locked_packages(LOCK).values()}
    assert document["metadata"]["component"]["version"] == __version__
    assert document["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert "serialNumber" not in document


def package(name: str, *ids: str, **fields: object) -> dict[str, Any]:
    """Returns an entry of pip-audit's output."""
    found = [{"id": each, "fix_versions": ["2.0"]} for each in ids]
    return {"name": name, "version": "1.0", "vulns": found, **fields}


def test_audit_lists_vulnerabilities() -> None:
    found = judged([package("a"), package("b", "CVE-1", "CVE-2")], LOCK)
    assert found == ["b 1.0: CVE-1, fixed in 2.0", "b 1.0: CVE-2, fixed in 2.0"]


@pytest.mark.parametrize(
    "packages", [[], [package("a"), {"name": "b", "skip_reason": "not found"}]], ids=len
)
def test_audit_without_data_fails(packages: list[dict[str, object]]) -> None:
    with pytest.raises(ClusterError, match=r"no vulnerability data for \d of \d packages"):
        judged(packages, LOCK)


def test_roots_are_the_packages_that_the_plugin_imports() -> None:
    modules: set[str] = set()
    for part in ("plugin", "core", "api"):
        for file in (PROJECT / "operator/initpipeline" / part).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {each.name.partition(".")[0] for each in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.partition(".")[0])
    packages = {"pykube": "pykube-ng", "yaml": "pyyaml"}
    foreign = modules - sys.stdlib_module_names - {"initpipeline"}
    assert {packages.get(name, name) for name in foreign} == set(ROOTS)


def test_plugin_has_no_package_of_the_operator_only() -> None:
    found = packages_of_plugin(locked_packages(LOCK))
    assert set(ROOTS) | COMPILED <= found
    assert not {"kopf", "kubernetes", "prometheus-client", "opentelemetry-sdk"} & found


def test_krew_manifest_has_the_checksum_of_each_archive(tmp_path: Path) -> None:
    archives = {each: tmp_path / f"{each.name}.tar.gz" for each in PLATFORMS}
    for platform, file in archives.items():
        file.write_text(platform.name)
    manifest = yaml.safe_load(krew_manifest(archives, __version__, "https://example.com/v1"))
    assert manifest["spec"]["version"] == f"v{__version__}"
    found = {entry["uri"]: entry["sha256"] for entry in manifest["spec"]["platforms"]}
    assert found == {
        f"https://example.com/v1/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()
        for file in archives.values()
    }


class Archive:
    """A single-file plugin whose packages are two modules, and a cache."""

    def __init__(self, folder: Path, tags: str) -> None:
        start = (PROJECT / "tests/release/bootstrap.py").read_text()
        start = start.replace("@DIGEST@", "d1").replace("@TAGS@", tags)
        program = (
            "def main():\n    import compiled\n    print(__name__, compiled.TAG)\n    return 3\n"
        )
        contents = {
            "site/initpipeline/__init__.py": "",
            "site/initpipeline/plugin/__init__.py": "",
            "site/initpipeline/plugin/main.py": program,
            "site/initpipeline/plugin/completion.py": program,
            **{f"compiled/{tag}/compiled.py": f"TAG = {tag!r}\n" for tag in tags.split()},
            "__main__.py": start,
        }
        self.file = folder / "kubectl-initpipeline"
        zipped = zip_of({name: text.encode() for name, text in contents.items()})
        self.file.write_bytes(SHEBANG + zipped)
        self.cache = folder / "cache"

    def run(self, file: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Starts the plugin with this Python."""
        return subprocess.run(
            [sys.executable, str(file or self.file)],
            env={**os.environ, "XDG_CACHE_HOME": str(self.cache)},
            capture_output=True,
            text=True,
            check=False,
        )

    def folders(self) -> list[str]:
        """Returns the names in the cache."""
        return sorted(each.name for each in (self.cache / "initpipeline-plugin").iterdir())


TAG: Final = f"cp{sys.version_info[0]}{sys.version_info[1]}"


def test_single_file_plugin_extracts_its_packages_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path, f"cp399 {TAG}")
    for _ in range(2):
        answer = archive.run()
        assert (answer.stdout, answer.returncode) == (f"initpipeline.plugin.main {TAG}\n", 3)
        assert archive.folders() == [f"d1-{TAG}"]
    extracted = archive.cache / "initpipeline-plugin" / f"d1-{TAG}"
    assert extracted.stat().st_mode & 0o777 == 0o700


def test_single_file_plugin_completes_under_the_name_of_kubectl(tmp_path: Path) -> None:
    archive = Archive(tmp_path, TAG)
    link = tmp_path / "kubectl_complete-initpipeline"
    link.symlink_to(archive.file)
    assert archive.run(link).stdout == f"initpipeline.plugin.completion {TAG}\n"


def test_single_file_plugin_names_the_python_that_it_needs(tmp_path: Path) -> None:
    answer = Archive(tmp_path, "cp397 cp398").run()
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: this file runs on CPython 3.97, 3.98, not on 3.")
    assert answer.stderr.count("\n") == 1


def test_single_file_plugin_does_not_use_a_folder_that_others_can_write(tmp_path: Path) -> None:
    archive = Archive(tmp_path, TAG)
    planted = archive.cache / "initpipeline-plugin" / f"d1-{TAG}"
    (planted / "initpipeline" / "plugin").mkdir(parents=True)
    (planted / "initpipeline/plugin/main.py").write_text("def main():\n    print('planted')\n")
    planted.chmod(0o777)
    assert archive.run().stdout == f"initpipeline.plugin.main {TAG}\n"
    assert archive.folders() == [f"d1-{TAG}"], "the temporary folder is deleted"


def test_single_file_plugin_runs_without_a_cache(tmp_path: Path) -> None:
    archive = Archive(tmp_path, TAG)
    archive.cache.write_text("not a folder")
    assert archive.run().stdout == f"initpipeline.plugin.main {TAG}\n"


def steps(workflow: Path) -> list[dict[str, Any]]:
    """Returns the steps of all jobs."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_there_are_workflows_for_tests_and_releases() -> None:
    assert [file.name for file in WORKFLOWS] == ["release.yml", "test.yml"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_runs_targets_of_the_makefile(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        for command in re.split(r"&&|\n", step.get("run", "")):
            name, *arguments = command.split() or [""]
            if name == "make":
                assert set(arguments) <= targets, command
            else:
                assert name in ("", *OTHER_COMMANDS), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_has_minimal_permissions_and_pinned_actions(workflow: Path) -> None:
    document = yaml.safe_load(workflow.read_text())
    assert document["permissions"] == {"contents": "read"}
    for step in steps(workflow):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"])
        # An expression in a script would run text that a user writes, such as a tag's name.
        assert "${{" not in step.get("run", "")


def test_release_workflow_signs_and_attests_before_it_publishes() -> None:
    [workflow] = [file for file in WORKFLOWS if file.name == "release.yml"]
    found = [step.get("uses", step.get("run", "")).split()[0] for step in steps(workflow)]
    order = ["sha256sum", "actions/attest-build-provenance@v2", "gh"]
    assert [each for each in found if each in order] == order
    assert found.count("cosign") == 3


def test_base_with_a_digest_is_accepted() -> None:
    base = f"docker.io/library/python:3.13-slim-bookworm@sha256:{'0' * 64}"
    assert Request(base=base).base == base
    assert DIGEST.search(base)


def test_plugin_whose_package_is_not_in_the_lock_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("")
    (tmp_path / "requirements.txt").write_text("rich==1.0\n")
    with pytest.raises(ClusterError, match="msgspec"):
        Plugin(tmp_path, tmp_path / "none.whl", silent)
