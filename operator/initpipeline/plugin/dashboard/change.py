"""Reads a change that a user tries out, and the dry run of it."""

from typing import Any

from initpipeline.api import names
from initpipeline.api.raw import Raw
from initpipeline.plugin import manifests
from initpipeline.plugin.cluster.client import ClusterClient
from initpipeline.plugin.cluster.dry_run import planned
from initpipeline.plugin.dashboard.live import Key
from initpipeline.plugin.errors import NotFoundError, PluginError
from initpipeline.plugin.report.apply_patch import three_way_patch
from initpipeline.plugin.views import plan as view


def editable(raw: Raw) -> str:
    """Returns the manifest that the user edits: the spec, without the fields of the API server."""
    named = {key: raw["metadata"][key] for key in ("name", "namespace")}
    manifest = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": named}
    return manifests.to_yaml({**manifest, "spec": raw["spec"]})


def lines(client: ClusterClient, key: Key, text: str) -> list[str]:
    """Returns what the operator would do if the manifest replaced the spec. Raises PluginError."""
    namespace, name = key
    spec = _spec(key, text)

    def stored(live: Raw | None) -> Raw:
        if live is None:
            raise NotFoundError(f'the InitPipeline "{name}" does not exist any more')
        change = {"spec": three_way_patch(live["spec"], spec, live["spec"])}
        return client.dry_run_patch(namespace, name, change)

    return [line.plain for line in view.lines(planned(client, namespace, name, stored))]


def _spec(key: Key, text: str) -> dict[str, Any]:
    """Returns the spec of the manifest. Raises PluginError."""
    try:
        documents = manifests.read(text)
    except (manifests.ManifestError, RecursionError) as error:
        raise PluginError(f"the text cannot be read: {error}") from error
    if len(documents) != 1:
        raise PluginError("the text must have one InitPipeline")
    manifest = documents[0].manifest
    metadata = manifest.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    if manifest["kind"] != names.KIND or (found.get("namespace"), found.get("name")) != key:
        raise PluginError(f"the text must have the InitPipeline {'/'.join(key)}")
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        raise PluginError("the text has no spec")
    return spec
