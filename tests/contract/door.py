"""The API server's door: what it lets in, what it refuses, and in which words."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from initpipeline.api import names

Object = dict[str, Any]
Template = Object


def minimal() -> Template:
    """The smallest Pod template that there is, to be changed."""
    return {
        "spec": {
            "initContainers": [{"name": "step", "image": "busybox"}],
            "containers": [{"name": "app", "image": "busybox"}],
        }
    }


def pipeline(template: object, name: str = "shop", **others: Any) -> Object:
    """An InitPipeline of that template, with these other fields in its spec."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {"template": template, **others},
    }


@dataclass(frozen=True)
class Refusal:
    """What an API server says instead of creating something."""

    code: int
    status: Object
    """A metav1.Status."""

    @property
    def message(self) -> str:
        return str(self.status["message"])


@dataclass(frozen=True)
class Door:
    """That of one namespace. Everything is asked strictly, as kubectl does."""

    api: client.ApiClient
    namespace: str

    def stored(self, template: Template) -> Any:
        """Create a pipeline of that template, and read the template back."""
        custom = client.CustomObjectsApi(self.api)
        body = pipeline(template)
        custom.create_namespaced_custom_object(*self._place, body, field_validation="Strict")
        return custom.get_namespaced_custom_object(*self._place, "shop")["spec"]["template"]

    def refusal(self, body: Object) -> Refusal | None:
        """Why that pipeline would be refused; None if it would not."""
        create = client.CustomObjectsApi(self.api).create_namespaced_custom_object
        return _refusal(
            lambda: create(*self._place, body, dry_run="All", field_validation="Strict")
        )

    def pod_refusal(self, template: Template) -> Refusal | None:
        """Why a Pod of that template would be refused; None if it would not."""
        pod = template | {"metadata": template.get("metadata", {}) | {"name": "shop"}}
        create = client.CoreV1Api(self.api).create_namespaced_pod
        options = {"dry_run": "All", "field_validation": "Strict", "_preload_content": False}
        return _refusal(lambda: create(self.namespace, pod, **options))

    @property
    def _place(self) -> tuple[str, str, str, str]:
        return names.GROUP, names.VERSION, self.namespace, names.PLURAL


def _refusal(create: Callable[[], Any]) -> Refusal | None:
    try:
        create()
    except client.ApiException as error:
        return Refusal(error.status, json.loads(error.body))
    return None
