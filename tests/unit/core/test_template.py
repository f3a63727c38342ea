"""Templates are equal if the API server would store the same Pod for both."""

import copy
import hashlib
import json
from typing import Any

import pytest

from initpipeline.api import names
from initpipeline.core.template import MOST_ELEMENTS, digest, is_comparable, normal_form
from initpipeline.core.template_changes import cause, changes
from tests.unit.core.templates import CORPUS, app, init, metadata, of, pod_level, requests, volume

DIGEST = f"sha256:{'0' * 64}"

EQUAL = [
    *(
        pytest.param(requests(f"cpu: {one}"), requests(f"cpu: {other}"), id=f"{one} = {other}")
        for one, other in (
            ("100m", "'0.1'"),
            ("100m", "0.1"),
            ("100m", "'.1'"),
            ("100m", "+100m"),
            ("100m", "0100m"),
            ("100m", "100e-3"),
            ("100m", "100000u"),
            ("1", "'1'"),
            ("1", "1000m"),
            ("1", "1.0"),
            ("1k", "1e3"),
            ("1k", "1E3"),
            ("64Mi", "65536Ki"),
            ("64Mi", "67108864"),
            ("1Gi", "1073741824"),
            ("1m", "100u"),  # The API server rounds up to thousandths.
        )
    ),
    pytest.param(app("{}"), app("imagePullPolicy: IfNotPresent"), id="pull policy of a tag"),
    pytest.param(
        app("image: busybox"), app("{image: busybox, imagePullPolicy: Always}"), id="no tag"
    ),
    pytest.param(
        app("image: 'r:5000/b:latest'"),
        app("{image: 'r:5000/b:latest', imagePullPolicy: Always}"),
        id="latest",
    ),
    *(
        pytest.param(
            app(f"image: '{image}'"),
            app(f"{{image: '{image}', imagePullPolicy: {policy}}}"),
            id=f"pull policy of {id_}",
        )
        for image, policy, id_ in (
            (f"b@{DIGEST}", "IfNotPresent", "a digest"),
            (f"b:latest@{DIGEST}", "Always", "latest with a digest"),
            ("b:latest@sha256", "IfNotPresent", "a malformed digest"),
            ("b@", "IfNotPresent", "an empty digest"),
            ("Registry/B", "IfNotPresent", "a malformed repository"),
            ("b" * 256, "IfNotPresent", "a repository that is too long"),
        )
    ),
    pytest.param(app("{}"), app("terminationMessagePolicy: File"), id="message of an app"),
    pytest.param(
        init("{}"),
        init("terminationMessagePolicy: FallbackToLogsOnError"),
        id="message of a step, which the operator sets",
    ),
    pytest.param(init("{}"), init("terminationMessagePath: /dev/termination-log"), id="message"),
    pytest.param(app("{}"), app("{env: [], args: null, command: [], ports: []}"), id="empty"),
    pytest.param(app("env: [{name: A}]"), app("env: [{name: A, value: ''}]"), id="empty variable"),
    pytest.param(app("args: ['', a]"), app("args: [null, a]"), id="null in a list of strings"),
    pytest.param(app("env: [{}]"), app("env: [null]"), id="null in a list of objects"),
    pytest.param(
        of("securityContext: {supplementalGroups: [0, 7]}"),
        of("securityContext: {supplementalGroups: [null, 7]}"),
        id="null in a list of integers",
    ),
    pytest.param(
        of("terminationGracePeriodSeconds: 60"), of("terminationGracePeriodSeconds: 60.0"),
        id="an integer with a decimal point",
    ),
    pytest.param(
        app("env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}]"),
        app(
            "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: '0'}}}]"
        ),
        id="a divisor of 0",
    ),
    pytest.param(app("resources: {}"), app("{}"), id="no resources"),
    pytest.param(
        app("resources: {limits: {cpu: 1}}"),
        app("resources: {limits: {cpu: '1'}, requests: {cpu: 1000m}}"),
        id="a request like the limit",
    ),
    pytest.param(
        pod_level("{limits: {cpu: 4, memory: 1Gi}}"),
        pod_level(
            "{limits: {cpu: 4, memory: 1Gi, hugepages-2Mi: 2Mi},"
            " requests: {cpu: 1, memory: 1Gi, hugepages-2Mi: 2Mi}}"
        ),
        id="Pod-level resources",
    ),
    pytest.param(
        pod_level("{limits: {hugepages-2Mi: 2Mi}}"),
        pod_level("{requests: {cpu: 1, hugepages-2Mi: 2Mi}, limits: {hugepages-2Mi: 2Mi}}"),
        id="Pod-level resources that all equal their defaults",
    ),
    pytest.param(
        app("ports: [{containerPort: 80}]"),
        app("ports: [{containerPort: 80, protocol: TCP, hostPort: 0}]"),
        id="port",
    ),
    pytest.param(
        of("hostNetwork: true", app="ports: [{containerPort: 80}]"),
        of("hostNetwork: true", app="ports: [{containerPort: 80, hostPort: 80}]"),
        id="port of the host",
    ),
    pytest.param(
        app("livenessProbe: {httpGet: {port: 80}}"),
        app(
            "livenessProbe: {httpGet: {port: 80, path: /, scheme: HTTP}, timeoutSeconds: 1,"
            " periodSeconds: 10, successThreshold: 1, failureThreshold: 3, initialDelaySeconds: 0}"
        ),
        id="probe",
    ),
    pytest.param(
        of(),
        of(
            "{restartPolicy: Always, dnsPolicy: ClusterFirst, schedulerName: default-scheduler,"
            " terminationGracePeriodSeconds: 30, enableServiceLinks: true, securityContext: {},"
            " hostNetwork: false, serviceAccountName: default, serviceAccount: default}"
        ),
        id="defaults of a Pod",
    ),
    pytest.param(of("serviceAccount: a"), of("serviceAccountName: a"), id="the deprecated name"),
    pytest.param(volume("emptyDir: {}"), of("volumes: [{name: v}]"), id="no volume source"),
    pytest.param(
        volume("image: {reference: 'data:1'}"),
        volume("image: {reference: 'data:1', pullPolicy: IfNotPresent}"),
        id="pull policy of an image volume with a tag",
    ),
    pytest.param(
        volume("image: {reference: data}"),
        volume("image: {reference: data, pullPolicy: Always}"),
        id="pull policy of an image volume without a tag",
    ),
    pytest.param(
        volume("secret: {secretName: s}"), volume("secret: {secretName: s, defaultMode: 420}"),
        id="mode",
    ),
    pytest.param(
        of("volumes: [{name: a}, {name: b}]"), of("volumes: [{name: b}, {name: a}]"),
        id="volumes in another order",
    ),
    pytest.param(
        of("tolerations: [{key: a}, {key: b}]"), of("tolerations: [{key: b}, {key: a}]"),
        id="tolerations in another order",
    ),
    pytest.param(
        metadata("{labels: {a: x, b: z}}"), metadata("{labels: {b: z, a: x}}"), id="order of keys"
    ),
    pytest.param(
        metadata("{creationTimestamp: null, name: x, labels: {}}"), metadata("{}"),
        id="metadata that the Pod does not get",
    ),
    pytest.param(
        metadata(f"{{annotations: {{{names.RUN_ANNOTATION}: '7'}}}}"), metadata("{}"),
        id="annotations of the operator",
    ),
]  # fmt: skip

UNEQUAL = [
    pytest.param(app("{}"), app("image: busybox:2"), id="image"),
    pytest.param(app("{}"), app("imagePullPolicy: Always"), id="pull policy of a tag"),
    pytest.param(init("{}"), init("terminationMessagePolicy: File"), id="message of a step"),
    pytest.param(
        app("{}"), app("terminationMessagePolicy: FallbackToLogsOnError"), id="message of an app"
    ),
    pytest.param(app("securityContext: {}"), app("{}"), id="a pointer to nothing"),
    pytest.param(app("securityContext: {runAsUser: 0}"), app("securityContext: {}"), id="root"),
    pytest.param(
        of("automountServiceAccountToken: false"), of(), id="false, if absent means true"
    ),
    pytest.param(
        app("env: [{name: A}, {name: B}]"), app("env: [{name: B}, {name: A}]"),
        id="variables in another order",
    ),
    pytest.param(app("args: [a, b]"), app("args: [b, a]"), id="arguments in another order"),
    pytest.param(app("args: ['']"), app("args: []"), id="an empty argument"),
    *(
        pytest.param(
            app(f"{{{field}, command: [a]}}"), app(f"{{{field}, command: [b]}}"),
            id=f"a command after {id_}",
        )
        for field, id_ in (
            ("args: []", "empty arguments"),
            ("args: null", "null"),
            ("terminationMessagePath: /dev/termination-log", "a default"),
        )
    ),
    pytest.param(
        app("livenessProbe: {tcpSocket: {port: 80}}"),
        app("livenessProbe: {tcpSocket: {port: '80'}}"),
        id="the number and the name of a port",
    ),
    pytest.param(requests("cpu: 100m"), requests("cpu: 101m"), id="amount"),
    pytest.param(requests("cpu: 1k"), requests("cpu: 1Ki"), id="powers of 1000 and of 1024"),
    pytest.param(
        requests("cpu: 100m"), requests("{cpu: 100m, memory: 0}".strip("{}")), id="a request of 0"
    ),
    pytest.param(
        volume("emptyDir: {}"), volume("emptyDir: {sizeLimit: 0}"), id="a limit of 0"
    ),
    pytest.param(
        volume("persistentVolumeClaim: {claimName: c}"), volume("emptyDir: {}"), id="source"
    ),
    pytest.param(
        pod_level("{}"), pod_level("{limits: {hugepages-2Mi: 2Mi}}"),
        id="Pod-level resources that all equal their defaults",
    ),
    pytest.param(
        of("resources: {}", app="resources: {requests: {cpu: 1}}"),
        of("resources: {requests: {cpu: 1}}", app="resources: {requests: {cpu: 1}}"),
        id="a Pod-level request without a Pod-level limit",
    ),
    pytest.param(metadata("{labels: {a: ''}}"), metadata("{}"), id="an empty label"),
    pytest.param(metadata("{labels: {a: '1'}}"), metadata("{labels: {a: '1.0'}}"), id="label"),
    pytest.param(
        metadata("{annotations: {a: 100m}}"), metadata("{annotations: {a: '0.1'}}"),
        id="an annotation in the form of an amount",
    ),
    pytest.param(
        requests("cpu: nonsense"), requests("cpu: 'other nonsense'"), id="not an amount"
    ),
]  # fmt: skip


class TestEquality:
    @pytest.mark.parametrize(("one", "other"), EQUAL)
    def test_same_pod_in_another_spelling_is_equal(self, one: Any, other: Any) -> None:
        assert changes(one, other) == []
        assert digest(one) == digest(other)

    @pytest.mark.parametrize(("one", "other"), UNEQUAL)
    def test_template_of_another_pod_is_unequal(self, one: Any, other: Any) -> None:
        assert changes(one, other)
        assert digest(one) != digest(other)

    def test_template_is_not_modified(self) -> None:
        before = copy.deepcopy(CORPUS)
        for template in CORPUS.values():
            normal_form(template)
        assert before == CORPUS

    @pytest.mark.parametrize("odd", [None, 1, "x", [], [None], [1], {"a": 1}, True, 1.5])
    def test_value_of_wrong_type_raises_nothing(self, odd: Any) -> None:
        for fields in ("volumes", "containers", "securityContext", "hostNetwork", "resources"):
            digest(of() | {"spec": {"containers": [{"name": "a"}], fields: odd}})
        for fields in ("resources", "ports", "image", "livenessProbe", "env"):
            digest({"metadata": odd, "spec": {"initContainers": [{fields: odd}]}})
        digest({"spec": {"containers": [{"resources": {"requests": odd, "limits": odd}}]}})

    def test_value_that_is_nested_too_deeply_raises_nothing(self) -> None:
        """An API server parses 10,000 levels. Python's stack has 1,000."""
        lists: Any = []
        objects: Any = {}
        for _ in range(5000):
            lists, objects = [lists], {"a": objects}
        assert digest({"spec": {"future": lists}}) != digest({"spec": {"future": objects}})

    def test_changed_rules_change_the_version(self) -> None:
        """Otherwise hashes of different rules would be compared. If the second value has changed,
        increase _VERSION in core/template.py, and update both values here."""
        hashes = [digest(template) for template in CORPUS.values()]
        assert len({hash_[:4] for hash_ in hashes}) == 1
        content = hashlib.sha256("".join(hash_[4:] for hash_ in hashes).encode()).hexdigest()
        assert (hashes[0][:4], content[:8]) == ("d1c9", "ce0eb491")

    @pytest.mark.parametrize("hash_", [None, "", "7dbc2c557849a1f3"])
    def test_hash_of_other_rules_is_rejected(self, hash_: str | None) -> None:
        assert not is_comparable(hash_)
        assert is_comparable(digest(of()))

    @pytest.mark.parametrize("excess", [0, 1, 2])
    def test_template_with_too_many_elements_is_compared_literally(self, excess: int) -> None:
        items = MOST_ELEMENTS + excess - 14  # The template has 14 other fields and items.
        many = of("{dnsPolicy: ClusterFirst, tolerations: []}", metadata="{labels: {a: x}}")
        many["spec"]["tolerations"] += [{}] * items
        spelled = {**many, "spec": {**many["spec"], "dnsPolicy": None}}
        assert digest(many) == digest(copy.deepcopy(many))
        assert (digest(many) == digest(spelled)) is not bool(excess)
        for old, new in ((many, app("image: a")), (app("image: a"), many)):
            assert (cause(old, new) is None) is bool(excess)

    def test_lone_surrogate_is_hashed(self) -> None:
        """A JSON string may contain one. UTF-8 cannot encode it."""
        one, other = ({"spec": {"hostname": text}} for text in ("\ud800", "\udfff"))
        assert digest(one) != digest(other)

    def test_large_script_does_not_count_as_many_elements(self) -> None:
        script = app(json.dumps({"args": ["echo a, b {c} [d];\n" * 10_000]}))
        spelled = {**script, "spec": {**script["spec"], "dnsPolicy": "ClusterFirst"}}
        assert digest(script) == digest(spelled)
