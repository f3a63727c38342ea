"""The official Kubernetes client, as all tests and recorders use it.

tests/cluster has a client of its own (tests/cluster/api.py), because it also runs without the
packages of the tests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes import client, config

from initpipeline.api import names
from initpipeline.api.raw import Raw


def connected(kubeconfig: Path) -> client.ApiClient:
    """Return a client with the rights of the kubeconfig's user. It is a context manager."""
    return config.new_client_from_config(str(kubeconfig), persist_config=False)


def refusal(request: Callable[[], object]) -> client.ApiException | None:
    """Send a request. Return the error of the API server, or None if it has accepted it."""
    try:
        request()
    except client.ApiException as error:
        return error
    return None


def allow(
    api: client.ApiClient, namespace: str, user: str, rules: list[dict[str, list[str]]]
) -> None:
    """Grant a user these rules in a namespace."""
    rbac = client.RbacAuthorizationV1Api(api)
    rbac.create_namespaced_role(namespace, {"metadata": {"name": user}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": user}, "subjects": [subject], "roleRef": role}
    rbac.create_namespaced_role_binding(namespace, binding)


def manifest(name: str, spec: Raw) -> Raw:
    """Return the InitPipeline that a user would create."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": spec,
    }


@dataclass(frozen=True)
class Pipelines:
    """The InitPipelines of one namespace.

    The options are those of the client, such as dry_run. All methods raise client.ApiException.
    """

    api: client.ApiClient
    namespace: str

    def create(self, body: Raw, **options: Any) -> Raw:
        """Create an InitPipeline, and return it as stored."""
        return dict(self._custom.create_namespaced_custom_object(*self._path, body, **options))

    def get(self, name: str) -> Raw:
        """Return an InitPipeline."""
        return dict(self._custom.get_namespaced_custom_object(*self._path, name))

    def list(self) -> list[Raw]:
        """Return all InitPipelines."""
        return list(self._custom.list_namespaced_custom_object(*self._path)["items"])

    def patch(self, name: str, change: Raw, **options: Any) -> Raw:
        """Apply a JSON merge patch, and return the InitPipeline as stored."""
        patch = self._custom.patch_namespaced_custom_object
        return dict(patch(*self._path, name, change, **options))

    def patch_status(self, name: str, status: Raw) -> None:
        """Apply a JSON merge patch to the status, as the operator would."""
        patch = self._custom.patch_namespaced_custom_object_status
        patch(*self._path, name, {"status": status})

    def delete(self, name: str, policy: str, **options: Any) -> None:
        """Delete an InitPipeline with this propagation policy."""
        delete = self._custom.delete_namespaced_custom_object
        delete(*self._path, name, body={"propagationPolicy": policy}, **options)

    def delete_all(self) -> None:
        """Delete all InitPipelines of the namespace."""
        delete = self._custom.delete_collection_namespaced_custom_object
        delete(*self._path, _preload_content=False).drain_conn()

    @property
    def _custom(self) -> client.CustomObjectsApi:
        return client.CustomObjectsApi(self.api)

    @property
    def _path(self) -> tuple[str, str, str, str]:
        return names.GROUP, names.VERSION, self.namespace, names.PLURAL
