"""Creates InitPipelines and Pods, or asks in a dry run how the API server would refuse them."""

import json
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from initpipeline.api.raw import Raw
from tests.api_client import Pipelines, manifest, refusal

Template = Raw


def minimal_template() -> Template:
    """Returns the smallest valid Pod template, for a test to change."""
    return {
        "spec": {
            "initContainers": [{"name": "step", "image": "busybox"}],
            "containers": [{"name": "app", "image": "busybox"}],
        }
    }


def pipeline_of(template: object, name: str = "shop", **policies: Any) -> Raw:
    """Returns an InitPipeline with this template, and these other fields in its spec."""
    return manifest(name, {"template": template, **policies})


@dataclass(frozen=True)
class ApiRefusal:
    """The response of an API server that refuses an object."""

    code: int
    status: Raw
    """A metav1.Status."""

    @property
    def message(self) -> str:
        return str(self.status["message"])


@dataclass(frozen=True)
class AdmissionClient:
    """Requests in one namespace, with strict field validation, as in kubectl."""

    api: client.ApiClient
    namespace: str

    def store_template(self, template: Template) -> Any:
        """Create an InitPipeline with this template. Returns the template as stored."""
        self._pipelines.create(pipeline_of(template), field_validation="Strict")
        return self._pipelines.get("shop")["spec"]["template"]

    def pipeline_refusal(self, body: Raw) -> ApiRefusal | None:
        """Returns how the API server would refuse this InitPipeline. None: it would accept it."""
        create = self._pipelines.create
        return _parsed(refusal(lambda: create(body, dry_run="All", field_validation="Strict")))

    def pod_refusal(self, template: Template) -> ApiRefusal | None:
        """Returns how the API server would refuse a Pod of this template. None: it would accept
        it."""
        pod = template | {"metadata": template.get("metadata", {}) | {"name": "shop"}}
        create = client.CoreV1Api(self.api).create_namespaced_pod
        options = {"dry_run": "All", "field_validation": "Strict", "_preload_content": False}
        return _parsed(refusal(lambda: create(self.namespace, pod, **options)))

    @property
    def _pipelines(self) -> Pipelines:
        return Pipelines(self.api, self.namespace)


def _parsed(error: client.ApiException | None) -> ApiRefusal | None:
    return None if error is None else ApiRefusal(error.status, json.loads(error.body))
