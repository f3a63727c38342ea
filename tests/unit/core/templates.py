"""Pod templates for tests, written as YAML."""

from pathlib import Path
from typing import Any

from tests import libyaml

CORPUS = libyaml.safe_load(
    (Path(__file__).parents[2] / "contract" / "pod_templates.yaml").read_text()
)


def of(spec: str = "{}", init: str = "{}", app: str = "{}", metadata: str = "{}") -> dict[str, Any]:
    """Returns a template with the required fields and these, given as YAML."""
    step = {"name": "step", "image": "busybox:1"} | libyaml.safe_load(init)
    container = {"name": "app", "image": "busybox:1"} | libyaml.safe_load(app)
    return {
        "metadata": libyaml.safe_load(metadata),
        "spec": {"initContainers": [step], "containers": [container]} | libyaml.safe_load(spec),
    }


def init(fields: str) -> dict[str, Any]:
    return of(init=fields)


def app(fields: str) -> dict[str, Any]:
    return of(app=fields)


def metadata(fields: str) -> dict[str, Any]:
    return of(metadata=fields)


def volume(source: str) -> dict[str, Any]:
    return of(f"volumes: [{{name: v, {source}}}]")


def requests(amounts: str) -> dict[str, Any]:
    return init(f"resources: {{requests: {{{amounts}}}}}")


def pod_level(resources: str) -> dict[str, Any]:
    """Returns a template with these Pod-level resources. The app requests 1 CPU and 2Mi of huge
    pages."""
    amounts = "{requests: {cpu: 1}, limits: {hugepages-2Mi: 2Mi}}"
    return of(f"resources: {resources}", app=f"resources: {amounts}")
