"""``plan``: what applying a file would do, before it is applied."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from initpipeline.api import names
from initpipeline.api.reasons import Reason
from initpipeline.core import podspec
from initpipeline.core.admission import classify
from initpipeline.core.facts import Facts, Pipeline, Pod
from initpipeline.plugin.errors import NotUsableError, PluginError, RefusedError
from initpipeline.plugin.manifests import ManifestError, read
from initpipeline.plugin.options import TABLE, Subparsers, command
from initpipeline.plugin.report.apply_patch import last_applied, merge_patch
from initpipeline.plugin.report.plan import NOTHING, REFUSED, Plan, Refused, plan
from initpipeline.plugin.session import Session
from initpipeline.plugin.terminal import read_text
from initpipeline.plugin.views import plan as view

_EXAMPLES = """\
  kubectl initpipeline plan -f shop.yaml
  kubectl initpipeline plan -f shop.yaml --server-side --field-manager kustomize-controller
  kustomize build . | kubectl initpipeline plan -f -
  kubectl initpipeline plan -f shop.yaml -o json | jq '.[].run'
"""

_DESCRIPTION = """\
Show what the operator would do after kubectl apply of this file: nothing; a policy change; a new
run, with the fields of the template that change and what it interrupts; or what the API server
would refuse. plan changes nothing: the API server merges, defaults and admits the InitPipeline in a
dry run, as for kubectl diff, and then the Pod, if you may create Pods. Paths are relative to
spec.template. Objects of other kinds in the file are left out."""

_CODES = """\
exit codes:
  0    the operator would do nothing
  1    the operator would do something; a higher code is an error, as for kubectl diff
  2    the command line or the file is not valid
  3    the cluster cannot be used: kubeconfig, connection, permission, CRD
  5    the API server would refuse an InitPipeline or its Pod
  130  ended by Ctrl-C
"""

_ENDINGS: Final = (".json", ".yaml", ".yml")
"""Suffixes of the files that are read in a directory, as in kubectl."""


class NotReadError(PluginError):
    """The file cannot be read, or is not a valid manifest."""

    code = 2


@dataclass(frozen=True, slots=True)
class _Given:
    """An InitPipeline of a file."""

    file: str
    namespace: str
    name: str
    manifest: Mapping[str, Any]


def add(subparsers: Subparsers) -> None:
    parser = command(
        subparsers,
        "plan",
        run,
        summary="what applying a file would do",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
        outputs=TABLE,
        completes=["file"],
        codes=_CODES,
    )
    parser.add_argument(
        "-f",
        "--filename",
        metavar="FILE",
        action="append",
        required=True,
        help="the manifests: a file, a directory, or - for standard input; may be repeated",
    )
    parser.add_argument(
        "--server-side",
        action="store_true",
        help="merge as kubectl apply --server-side and Flux do",
    )
    parser.add_argument(
        "--force-conflicts",
        action="store_true",
        help="with --server-side: take over fields of other field managers",
    )
    parser.add_argument(
        "--field-manager",
        metavar="NAME",
        default="kubectl",
        help="with --server-side: name of the field manager (default: kubectl)",
    )
    parser.add_argument("-R", "--recursive", action="store_true", help="read subdirectories, too")


def run(session: Session) -> int:
    try:
        return _run(session)
    except PluginError as error:
        if error.code > 1:
            raise
        raise RefusedError(str(error)) from error  # 1 means a difference.


def _run(session: Session) -> int:
    given = list(_given(session))
    if not given:
        raise NotReadError(f"{', '.join(session.options.filename)}: no InitPipeline in it")
    plans = [_plan(session, one) for one in given]
    if session.for_a_program:
        session.show_data([one.to_api() for one in plans])
    else:
        session.show(view.view(plans))
    if any(one.kind == REFUSED for one in plans):
        return RefusedError.code
    return 0 if all(one.kind == NOTHING for one in plans) else 1


def _given(session: Session) -> Iterator[_Given]:
    """Yields the InitPipelines of the files. Raises NotReadError."""
    others = 0
    for file in session.options.filename:
        for path in _paths(file, session.options.recursive):
            for manifest in _manifests(path):
                if _is_ours(manifest):
                    yield _placed(session, path, manifest)
                else:
                    others += 1
    if others:
        objects = "1 object" if others == 1 else f"{others} objects"
        session.note(f"{objects} of other kinds left out: see kubectl diff")


def _paths(file: str, recursive: bool) -> list[str]:
    if file.startswith(("http://", "https://")):
        raise NotReadError(f"{file}: URLs are not supported: use curl {file} | ... plan -f -")
    if file == "-" or not Path(file).is_dir():
        return [file]
    found = Path(file).rglob("*") if recursive else Path(file).glob("*")
    return sorted(str(path) for path in found if path.suffix in _ENDINGS and path.is_file())


def _manifests(file: str) -> list[Mapping[str, Any]]:
    try:
        return [document.manifest for document in read(read_text(file))]
    except (ManifestError, UnicodeDecodeError, OSError, RecursionError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise NotReadError(f"{file}: {words}") from error


def _is_ours(manifest: Mapping[str, Any]) -> bool:
    group = str(manifest.get("apiVersion")).partition("/")[0]
    return group == names.GROUP and manifest.get("kind") == names.KIND


def _placed(session: Session, file: str, manifest: Mapping[str, Any]) -> _Given:
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(metadata, Mapping) or not isinstance(name, str) or not name:
        raise NotReadError(f"{file}: an InitPipeline without a metadata.name cannot be applied")
    given, asked = metadata.get("namespace"), session.options.namespace
    if given and asked and given != asked:
        raise NotReadError(f'{file}: "{name}" is of namespace "{given}", and -n is "{asked}"')
    return _Given(file, str(given or session.namespace), name, manifest)


def _plan(session: Session, given: _Given) -> Plan:
    with session.progress(f"asking what the API server would store of {given.name}"):
        live = session.cluster.find_pipeline(given.namespace, given.name)
        try:
            stored = _stored(session, given, live)
        except RefusedError as error:
            refused = Refused(names.KIND, str(error))
            return Plan(given.namespace, given.name, created=live is None, refused=(refused,))
        raw_pod = _pod(session, given)
        pod = None if raw_pod is None else Pod.from_api(raw_pod)
        before = None if live is None else Facts(_pipeline(live, given), pod)
        after = Facts(_pipeline(stored, given), pod)
        found = plan(before, after, session.cluster.now())
        if found.created or found.changes or found.run is not None:
            found = _with_pod_checked(session, found, after)
    return found


def _pipeline(raw: Mapping[str, Any], given: _Given) -> Pipeline:
    # The API server sets no resourceVersion on an object that a dry run creates.
    metadata = {"resourceVersion": "0", **raw["metadata"]}
    try:
        return Pipeline.from_api({**raw, "metadata": metadata})
    except ValueError as error:
        raise PluginError(
            f'this version of the plugin cannot read InitPipeline "{given.name}": {error}'
        ) from error


def _stored(session: Session, given: _Given, live: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns what the API server would store. Raises RefusedError."""
    options = session.options
    if options.server_side:
        return session.cluster.dry_run_apply(
            given.namespace,
            given.name,
            given.manifest,
            options.field_manager,
            force=options.force_conflicts,
        )
    if live is None:
        return session.cluster.dry_run_create(given.namespace, given.manifest)
    patch = merge_patch(last_applied(live), given.manifest, live)
    return session.cluster.dry_run_patch(given.namespace, given.name, patch)


def _pod(session: Session, given: _Given) -> dict[str, Any] | None:
    """Returns the Pod of this name. None: there is none."""
    return session.cluster.find_pod(given.namespace, given.name)


def _with_pod_checked(session: Session, found: Plan, applied: Facts) -> Plan:
    """Returns the plan with the API server's answer to a dry run of the Pod's creation."""
    pipeline = applied.pipeline
    where = pipeline.namespace
    if not session.cluster.is_allowed("create", "pods", where):
        words = (
            f"the Pod, because you may not create pods in namespace {where}: see kubectl auth "
            f"can-i create pods -n {where}"
        )
        return replace(found, unchecked=(*found.unchecked, words))
    manifest = podspec.build(pipeline, found.run or 1)
    # The owner does not exist yet, or is as it was.
    del manifest["metadata"]["ownerReferences"]
    try:
        session.cluster.dry_run_create_pod(where, manifest)
    except RefusedError as error:
        return _with_refusal(found, str(error), applied.pod)
    except NotUsableError as error:
        return replace(found, unchecked=(*found.unchecked, f"the Pod: {error}"))
    return found


def _with_refusal(found: Plan, words: str, pod: Pod | None) -> Plan:
    if pod is not None and words.endswith("already exists"):
        return found  # Admission and validation come first: the Pod has passed both.
    refusal = classify(403, {"message": words})
    if pod is not None and refusal is not None and refusal.reason is Reason.QUOTA_EXCEEDED:
        quota = f"the quota, which still counts the present Pod: {words}"
        return replace(found, unchecked=(*found.unchecked, quota))
    return replace(found, refused=(*found.refused, Refused("Pod", words)))
