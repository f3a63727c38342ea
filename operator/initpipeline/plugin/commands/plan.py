"""Implements ``plan``, which shows what applying a file would do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from initpipeline.api import names
from initpipeline.plugin.cluster.dry_run import planned
from initpipeline.plugin.errors import PluginError, RefusedError
from initpipeline.plugin.manifests import ManifestError, read
from initpipeline.plugin.options import TABLE, Subparsers, command
from initpipeline.plugin.report.apply_patch import last_applied, three_way_patch
from initpipeline.plugin.report.plan import NOTHING, REFUSED, Plan
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import read_text
from initpipeline.plugin.views import plan as view

_EXAMPLES = """\
  # Show what applying a file would do
  kubectl initpipeline plan -f shop.yaml

  # Merge the file as Flux does
  kubectl initpipeline plan -f shop.yaml --server-side --field-manager kustomize-controller

  # Read the output of kustomize
  kustomize build . | kubectl initpipeline plan -f -

  # Print the run that would start
  kubectl initpipeline plan -f shop.yaml -o json | jq '.[].run'
"""

_DESCRIPTION = """\
Show what the operator would do after kubectl apply -f FILE: nothing, a change without a new run, or
a new run. For a new run, plan shows the changed fields of the template and the current run that
would be interrupted. plan also shows what the API server would refuse.

plan changes nothing. It sends the InitPipeline to the API server in a dry run, as kubectl diff
does, and then the Pod, if RBAC allows you to create Pods. Paths of template fields are relative to
spec.template. Objects of other kinds are ignored."""

_CODES = """\
exit codes:
  0    the operator would do nothing
  1    the operator would do something; as in kubectl diff, higher codes are errors
  2    invalid usage or file
  3    the cluster cannot be used: check kubeconfig, connection, RBAC and CRD
  5    the API server would refuse an InitPipeline or its Pod
  130  interrupted by Ctrl-C
"""

_SUFFIXES: Final = (".json", ".yaml", ".yml")
"""Suffixes of the files of a directory that are read, as in kubectl."""


class InvalidFileError(PluginError):
    """The file cannot be read, or is not a valid manifest."""

    code = 2


@dataclass(frozen=True, slots=True)
class _Manifest:
    """An InitPipeline in a file."""

    file: str
    namespace: str
    name: str
    content: Mapping[str, Any]


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "plan",
        run,
        summary="Show what applying a file would do",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["file"],
        codes=_CODES,
        all_namespaces=False,
    )
    parser.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        required=True,
        help="file or directory of manifests, or - for standard input; may be repeated",
    )
    parser.add_argument(
        "--server-side",
        action="store_true",
        help="merge as kubectl apply --server-side and Flux do",
    )
    parser.add_argument(
        "--force-conflicts",
        action="store_true",
        help="with --server-side: override fields of other field managers",
    )
    parser.add_argument(
        "--field-manager",
        metavar="NAME",
        default="kubectl",
        help="with --server-side: name of the field manager (default: kubectl)",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="also read subdirectories")


def run(session: Session) -> int:
    try:
        return _run(session)
    except PluginError as error:
        if error.code > 1:
            raise
        raise RefusedError(str(error)) from error  # The exit code 1 would mean a difference.


def _run(session: Session) -> int:
    manifests = list(_pipelines(session))
    if not manifests:
        raise InvalidFileError(f"{', '.join(session.options.filename)}: no InitPipeline found")
    plans = [_plan(session, manifest) for manifest in manifests]
    if session.wants_data:
        session.show_data([one.to_api() for one in plans])
    else:
        session.show(view.view(plans))
    if any(one.kind == REFUSED for one in plans):
        return RefusedError.code
    return 0 if all(one.kind == NOTHING for one in plans) else 1


def _pipelines(session: Session) -> Iterator[_Manifest]:
    """Yields the InitPipelines of the files. Raises InvalidFileError."""
    others = 0
    for file in session.options.filename:
        for path in _paths(file, session.options.recursive):
            for content in _objects(path):
                if _is_pipeline(content):
                    yield _manifest(session, path, content)
                else:
                    others += 1
    if others:
        objects = "1 object of another kind" if others == 1 else f"{others} objects of other kinds"
        session.note(f"ignored {objects}: use kubectl diff")


def _paths(file: str, recursive: bool) -> list[str]:
    """Returns the file, or the manifest files of the directory. Raises InvalidFileError."""
    if file.startswith(("http://", "https://")):
        raise InvalidFileError(
            f"{file}: URLs are not supported: use curl {file} | kubectl initpipeline plan -f -"
        )
    if file == "-" or not Path(file).is_dir():
        return [file]
    paths = Path(file).rglob("*") if recursive else Path(file).glob("*")
    return sorted(str(path) for path in paths if path.suffix in _SUFFIXES and path.is_file())


def _objects(file: str) -> list[Mapping[str, Any]]:
    try:
        return [document.manifest for document in read(read_text(file))]
    except (ManifestError, UnicodeDecodeError, OSError, RecursionError) as error:
        message = getattr(error, "strerror", None) or str(error)
        raise InvalidFileError(f"{file}: {message}") from error


def _is_pipeline(content: Mapping[str, Any]) -> bool:
    group = str(content.get("apiVersion")).partition("/")[0]
    return group == names.GROUP and content.get("kind") == names.KIND


def _manifest(session: Session, file: str, content: Mapping[str, Any]) -> _Manifest:
    """Returns the InitPipeline with its namespace. Raises InvalidFileError."""
    metadata = content.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(metadata, Mapping) or not isinstance(name, str) or not name:
        raise InvalidFileError(f"{file}: an InitPipeline without metadata.name cannot be applied")
    namespace, flag = metadata.get("namespace"), session.options.namespace
    if namespace and flag and namespace != flag:
        raise InvalidFileError(
            f'{file}: InitPipeline "{name}" is in namespace "{namespace}", but -n is "{flag}"'
        )
    return _Manifest(file, str(namespace or session.namespace), name, content)


def _plan(session: Session, manifest: _Manifest) -> Plan:
    with session.progress(f"sending a dry run of {manifest.name}"):
        return planned(
            session.cluster,
            manifest.namespace,
            manifest.name,
            lambda live: _stored(session, manifest, live),
        )


def _stored(
    session: Session, manifest: _Manifest, live: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Returns the object that the API server would store. Raises RefusedError."""
    options = session.options
    if options.server_side:
        return session.cluster.dry_run_apply(
            manifest.namespace,
            manifest.name,
            manifest.content,
            options.field_manager,
            force=options.force_conflicts,
        )
    if live is None:
        return session.cluster.dry_run_create(manifest.namespace, manifest.content)
    patch = three_way_patch(last_applied(live), manifest.content, live)
    return session.cluster.dry_run_patch(manifest.namespace, manifest.name, patch)
