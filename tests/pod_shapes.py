"""Pod specs with their effective resources, which the operator and Kubernetes must agree on.

An API server accepts each of these Pods if its RuntimeClass ``RUNTIME_CLASS`` has ``OVERHEAD``.
The expected values are those that ResourceQuota and the scheduler were observed to count.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from initpipeline.api.raw import Raw

Amounts = dict[str, str]

RUNTIME_CLASS: Final = "heavy"
OVERHEAD: Final = {"cpu": "250m", "memory": "120Mi"}
GPU: Final = "example.com/gpu"
DISK: Final = "ephemeral-storage"
HUGE: Final = "hugepages-2Mi"


@dataclass(frozen=True)
class Shape:
    """A v1.PodSpec, and its effective resources."""

    spec: Raw
    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)


def box(name: str, requests: Amounts | None = None, limits: Amounts | None = None) -> Raw:
    """Return a container with these resources."""
    resources = {"requests": requests, "limits": limits}
    given = {key: amounts for key, amounts in resources.items() if amounts is not None}
    return {"name": name, "image": "none.test/none", "resources": given}


def cpu(name: str, amount: str) -> Raw:
    """Return a container that requests this amount of CPU and nothing else."""
    return box(name, {"cpu": amount})


def sidecar(container: Raw) -> Raw:
    return {**container, "restartPolicy": "Always"}


def spec(*init: Raw, apps: tuple[Raw, ...], **more: Any) -> Raw:
    return {"initContainers": list(init), "containers": list(apps), **more}


SHAPES: Final = {
    "no-resources": Shape(spec(box("one"), apps=(box("app"),))),
    "largest-init": Shape(
        spec(cpu("one", "1"), cpu("two", "2"), apps=(cpu("app", "500m"),)), {"cpu": "2"}
    ),
    "sum-of-the-apps": Shape(
        spec(cpu("one", "1"), apps=(cpu("app", "700m"), cpu("web", "800m"))), {"cpu": "1500m"}
    ),
    "each-resource-by-itself": Shape(
        spec(
            box("one", {"cpu": "100m", "memory": "2Gi"}),
            apps=(box("app", {"cpu": "1", "memory": "128Mi"}),),
        ),
        {"cpu": "1", "memory": "2Gi"},
    ),
    "sidecar-before-an-init": Shape(
        spec(sidecar(cpu("proxy", "200m")), cpu("one", "1"), apps=(cpu("app", "500m"),)),
        {"cpu": "1200m"},
    ),
    "sidecar-after-an-init": Shape(
        spec(cpu("one", "1"), sidecar(cpu("proxy", "200m")), apps=(cpu("app", "500m"),)),
        {"cpu": "1"},
    ),
    "sidecar-between-inits": Shape(
        spec(
            cpu("one", "1"),
            sidecar(cpu("proxy", "300m")),
            cpu("two", "900m"),
            apps=(cpu("app", "100m"),),
        ),
        {"cpu": "1200m"},
    ),
    "sidecars-beside-the-apps": Shape(
        spec(
            sidecar(cpu("proxy", "100m")),
            cpu("one", "500m"),
            sidecar(cpu("logs", "200m")),
            apps=(cpu("app", "400m"), cpu("web", "200m")),
        ),
        {"cpu": "900m"},
    ),
    "requests-and-limits": Shape(
        spec(
            sidecar(box("proxy", {"memory": "64Mi"}, {"memory": "128Mi"})),
            box("one", {"memory": "512Mi"}, {"memory": "1Gi"}),
            apps=(box("app", {"memory": "256Mi"}, {"memory": "2Gi"}),),
        ),
        {"memory": "576Mi"},
        {"memory": "2176Mi"},
    ),
    "limits-are-the-default-of-requests": Shape(
        spec(
            box("one", limits={"cpu": "300m"}),
            apps=(box("app", {"cpu": "200m"}, {"cpu": "1", "memory": "64Mi"}),),
        ),
        {"cpu": "300m", "memory": "64Mi"},
        {"cpu": "1", "memory": "64Mi"},
    ),
    "one-of-the-apps-has-a-limit": Shape(
        spec(
            box("one"),
            apps=(box("app", {"cpu": "1"}, {"cpu": "2"}), cpu("web", "500m")),
        ),
        {"cpu": "1500m"},
        {"cpu": "2"},
    ),
    "overhead-without-memory-limit": Shape(
        spec(
            cpu("one", "1"),
            apps=(box("app", {"cpu": "500m"}, {"cpu": "2"}),),
            runtimeClassName=RUNTIME_CLASS,
            overhead=OVERHEAD,
        ),
        {"cpu": "1250m", "memory": "120Mi"},
        {"cpu": "2250m"},
    ),
    "overhead-and-a-limit-of-zero": Shape(
        spec(
            box("one"),
            apps=(box("app", limits={"cpu": "0"}),),
            runtimeClassName=RUNTIME_CLASS,
            overhead=OVERHEAD,
        ),
        {"cpu": "250m", "memory": "120Mi"},
        {"cpu": "0"},
    ),
    "requests-of-the-pod": Shape(
        spec(
            cpu("one", "1"),
            apps=(box("app", {"cpu": "500m", "memory": "1Gi"}),),
            resources={"requests": {"cpu": "3"}},
        ),
        {"cpu": "3", "memory": "1Gi"},
    ),
    "limits-of-the-pod-without-requests": Shape(
        spec(
            cpu("one", "1"),
            apps=(cpu("app", "500m"),),
            resources={"limits": {"cpu": "4", "memory": "2Gi"}},
        ),
        {"cpu": "1", "memory": "2Gi"},
        {"cpu": "4", "memory": "2Gi"},
    ),
    "requests-and-limits-of-the-pod-and-overhead": Shape(
        spec(
            box("one", limits={DISK: "2Gi"}),
            apps=(box("app", {"cpu": "500m"}, {"cpu": "1"}),),
            resources={"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
            runtimeClassName=RUNTIME_CLASS,
            overhead=OVERHEAD,
        ),
        {"cpu": "1250m", DISK: "2Gi", "memory": "120Mi"},
        {"cpu": "2250m", DISK: "2Gi"},
    ),
    "huge-pages-of-the-pod": Shape(
        spec(
            box("one"),
            apps=(box("app", {"cpu": "1"}, {HUGE: "4Mi"}),),
            resources={"limits": {HUGE: "10Mi"}},
        ),
        {"cpu": "1", HUGE: "10Mi"},
        {HUGE: "10Mi"},
    ),
    "disk-huge-pages-and-devices": Shape(
        spec(
            sidecar(box("proxy", {"cpu": "1"}, {HUGE: "2Mi"})),
            box("one", {"cpu": "1"}, {GPU: "3", DISK: "10G", HUGE: "6Mi"}),
            apps=(
                box("app", {"cpu": "1", DISK: "1G"}, {GPU: "1", HUGE: "2Mi"}),
                box("web", {"cpu": "1", DISK: "2G"}, {GPU: "1"}),
            ),
        ),
        {"cpu": "3", DISK: "10G", GPU: "3", HUGE: "8Mi"},
        {DISK: "10G", GPU: "3", HUGE: "8Mi"},
    ),
    "zero": Shape(spec(box("one"), apps=(cpu("app", "0"),)), {"cpu": "0"}),
    "spellings": Shape(
        spec(
            box("one", {"cpu": "0.25", DISK: "1e9"}),
            sidecar(box("proxy", {"cpu": "0.5", "memory": "0.5Gi"})),
            apps=(
                box("app", {"cpu": "1.50", "memory": "1024Mi", DISK: "500e6"}),
                box("web", {"cpu": "1000m", "memory": "1000000Ki", DISK: "1.5G"}),
            ),
        ),
        {"cpu": "3", "memory": "2572864Ki", DISK: "2e9"},
    ),
    "same-amount-in-two-notations": Shape(
        spec(box("one", {"memory": "1073741824"}), apps=(box("app", {"memory": "1Gi"}),)),
        {"memory": "1Gi"},
    ),
    "less-than-a-thousandth": Shape(
        spec(cpu("one", "1u"), apps=(cpu("app", "100500u"), cpu("web", "100500u"))),
        {"cpu": "202m"},
    ),
}
