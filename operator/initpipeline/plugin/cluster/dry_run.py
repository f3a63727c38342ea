"""Computes what the operator would do after a change, with dry runs on the API server."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason
from initpipeline.core import podspec
from initpipeline.core.admission import classify
from initpipeline.core.facts import Facts, Pipeline
from initpipeline.core.pod import Pod
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.errors import NotUsableError, PluginError, RefusedError
from initpipeline.plugin.report.plan import Plan, Refused, plan


def planned(
    client: ClusterClient, namespace: str, name: str, stored: Callable[[Raw | None], Raw]
) -> Plan:
    """Returns what the operator would do.

    ``stored`` gets the current InitPipeline, or None if it does not exist, and returns the one that
    the API server would store. It raises RefusedError if the API server would not. Raises
    PluginError if the cluster cannot be used.
    """
    live = client.find_pipeline(namespace, name)
    try:
        changed = stored(live)
    except RefusedError as error:
        refused = Refused(names.KIND, str(error))
        return Plan(namespace, name, created=live is None, refused=(refused,))
    raw_pod = client.find_pod(namespace, name)
    pod = None if raw_pod is None else Pod.from_api(raw_pod)
    before = None if live is None else Facts(_pipeline(live, name), pod)
    after = Facts(_pipeline(changed, name), pod)
    made = plan(before, after, client.now())
    if made.created or made.changes or made.run is not None:
        made = _with_pod_checked(client, made, after)
    return made


def _pipeline(raw: Mapping[str, Any], name: str) -> Pipeline:
    # The API server sets no resourceVersion on an object that a dry run creates.
    metadata = {"resourceVersion": "0", **raw["metadata"]}
    try:
        return Pipeline.from_api({**raw, "metadata": metadata})
    except ValueError as error:
        raise PluginError(
            f'this version of the plugin cannot read InitPipeline "{name}": {error}'
        ) from error


def _with_pod_checked(client: ClusterClient, made: Plan, applied: Facts) -> Plan:
    """Returns the plan with the result of a dry run that creates the Pod."""
    pipeline = applied.pipeline
    namespace = pipeline.namespace
    if not client.is_allowed("create", "pods", namespace):
        reason = (
            f"the Pod, because you may not create pods in namespace {namespace}: see kubectl auth "
            f"can-i create pods -n {namespace}"
        )
        return replace(made, unchecked=(*made.unchecked, reason))
    pod = podspec.build(pipeline, made.run or 1)
    # In a dry run, a new owner does not exist.
    del pod["metadata"]["ownerReferences"]
    try:
        client.dry_run_create_pod(namespace, pod)
    except RefusedError as error:
        return _with_refusal(made, str(error), applied.pod)
    except NotUsableError as error:
        return replace(made, unchecked=(*made.unchecked, f"the Pod: {error}"))
    return made


def _with_refusal(made: Plan, message: str, pod: Pod | None) -> Plan:
    if pod is not None and message.endswith("already exists"):
        return made  # The API server checks this after admission and validation.
    refusal = classify(403, {"message": message})
    if pod is not None and refusal is not None and refusal.reason is Reason.QUOTA_EXCEEDED:
        quota = f"the quota, which still counts the current Pod: {message}"
        return replace(made, unchecked=(*made.unchecked, quota))
    return replace(made, refused=(*made.refused, Refused("Pod", message)))
