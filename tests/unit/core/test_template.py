"""Equality of templates, and the fields in which two templates differ."""

import base64
import copy
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from initpipeline.api import names
from initpipeline.api.models import Cause
from initpipeline.core.encoding import DEEPEST
from initpipeline.core.template import (
    LARGEST_PACKED,
    MOST_ELEMENTS,
    by_these_rules,
    cause,
    changed_fields_message,
    changes,
    digest,
    normal_form,
    packed,
    unpacked,
    verified,
)
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
        assert not by_these_rules(hash_)
        assert by_these_rules(digest(of()))

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


class TestChanges:
    @pytest.mark.parametrize(
        ("old", "new", "paths"),
        [
            pytest.param(
                init("{}"), init("image: busybox:2"), ["spec.initContainers[0].image"], id="image"
            ),
            pytest.param(
                of(init="image: a", app="image: a", metadata="{labels: {a: x}}"),
                of("hostPID: true", "image: b", "image: b", "{labels: {a: z}}"),
                [
                    "spec.initContainers[0].image",
                    "spec.containers[0].image",
                    "spec.hostPID",
                    "metadata.labels.a",
                ],
                id="steps first",
            ),
            pytest.param(
                app("env: [{name: A, value: x}]"),
                app("env: [{name: Z, value: z}, {name: A, value: y}]"),
                ["spec.containers[0].env[0]", "spec.containers[0].env[1].value"],
                id="an item in front of another",
            ),
            pytest.param(
                app("env: [{name: A}, {name: B}]"), app("env: [{name: B}]"),
                ["spec.containers[0].env"], id="a removed item",
            ),
            pytest.param(
                app("env: [{name: A}, {name: B}]"), app("env: [{name: C, value: x}, {name: B}]"),
                ["spec.containers[0].env[0].name", "spec.containers[0].env[0].value"],
                id="another name",
            ),
            pytest.param(
                app("env: [{name: A}, {name: B}]"), app("env: [{name: B}, {name: A}]"),
                ["spec.containers[0].env"], id="another order",
            ),
            pytest.param(
                of("volumes: [{name: a}, {name: b}]"),
                of("volumes: [{name: b, secret: {secretName: s}}, {name: a}]"),
                ["spec.volumes[0].secret"], id="order without effect",
            ),
            pytest.param(
                of("tolerations: [{key: a}]"), of("tolerations: [{key: b}]"),
                ["spec.tolerations"], id="items without a name and without an order",
            ),
            pytest.param(app("args: [a, b]"), app("args: [a, c]"),
                ["spec.containers[0].args"], id="arguments"),
            pytest.param(
                app("ports: [{containerPort: 80}]"), app("ports: [{containerPort: 81}]"),
                ["spec.containers[0].ports[0].containerPort"], id="items without a name",
            ),
            pytest.param(
                metadata("{}"), metadata("{annotations: {example.com/a: x}}"),
                ["metadata"], id="the first annotation",
            ),
            pytest.param(
                metadata("{annotations: {example.com/a: x}}"),
                metadata("{annotations: {example.com/a: z}}"),
                ["metadata.annotations[example.com/a]"], id="annotation",
            ),
            pytest.param(
                requests("cpu: 100m"), requests("cpu: 200m"),
                ["spec.initContainers[0].resources.requests.cpu"], id="amount",
            ),
            pytest.param(
                of("automountServiceAccountToken: false"), of(),
                ["spec.automountServiceAccountToken"], id="a removed field",
            ),
            pytest.param(
                of("nodeSelector: {a: x}"), of(r'nodeSelector: {a: x, "b\n c": x}'),
                ["spec.nodeSelector[b c]"], id="a key with a line break",
            ),
            pytest.param(
                app("env: [{name: A}]"), app("env: [{value: x}]"),
                ["spec.containers[0].env[0].name", "spec.containers[0].env[0].value"],
                id="an item that loses its name",
            ),
        ],
    )  # fmt: skip
    def test_changes_have_the_paths_of_their_fields(
        self, old: Any, new: Any, paths: list[str]
    ) -> None:
        assert [change.path for change in changes(old, new)] == paths

    @pytest.mark.parametrize(
        ("old", "new", "values"),
        [
            pytest.param(app("image: a"), app("image: b"), ("a", "b"), id="a value"),
            pytest.param(of(), of("hostPID: true"), (None, True), id="a new field"),
            pytest.param(of("hostPID: true"), of(), (True, None), id="a removed field"),
            pytest.param(app("args: [a, b]"), app("args: [b]"), (["a", "b"], ["b"]), id="a list"),
            pytest.param(
                app("env: [{name: A}]"), app("env: [{name: A}, {name: B, value: x}]"),
                (None, {"name": "B", "value": "x"}), id="a new item",
            ),
            pytest.param(
                app("env: [{name: A}, {name: B}]"), app("env: [{name: B}]"),
                (["A", "B"], ["B"]), id="a removed item: the names",
            ),
            pytest.param(app("args: [a]"), app("args: 7"), (["a"], 7), id="not a list any more"),
            pytest.param(app("args: 7"), app("args: [b]"), (7, ["b"]), id="now a list"),
            pytest.param(
                volume("emptyDir: {sizeLimit: 0}"), volume("emptyDir: {sizeLimit: 1}"),
                ("0", "1"), id="an amount of 0",
            ),
            pytest.param(
                app("securityContext: {runAsUser: 1}"), app("securityContext: 1"),
                ({"runAsUser": 1}, 1), id="not an object any more",
            ),
            pytest.param(
                app("securityContext: 1"), app("securityContext: {runAsUser: 1}"),
                (1, {"runAsUser": 1}), id="now an object",
            ),
        ],
    )  # fmt: skip
    def test_change_has_the_old_and_the_new_value(
        self, old: Any, new: Any, values: tuple[Any, Any]
    ) -> None:
        [change] = changes(old, new)
        assert (change.old, change.new) == values

    @pytest.mark.parametrize(
        ("count", "message"),
        [
            pytest.param(2, "spec.a, spec.b changed", id="all"),
            pytest.param(3, "spec.a, spec.b and 1 more changed", id="all but one"),
        ],
    )
    def test_message_lists_the_first_changed_fields(self, count: int, message: str) -> None:
        changed = Cause(changed_paths=("spec.a", "spec.b"), changed_path_count=count)
        assert changed_fields_message(changed) == message

    def test_path_with_long_key_is_shortened(self) -> None:
        old, new = ({"spec": {"nodeSelector": {"k" * 9999: value}}} for value in "xz")
        [change] = changes(old, new)
        assert len(change.path) <= 256


def annotation(text: bytes) -> str:
    """Returns the text in the form of the annotation with the packed template."""
    return base64.b64encode(zlib.compress(text)).decode()


class TestPacked:
    def test_json_in_the_form_of_the_annotation_is_read(self) -> None:
        assert unpacked(annotation(b'{"spec": {}}')) == {"spec": {}}

    def test_packed_template_is_unpacked(self) -> None:
        for template in CORPUS.values():
            assert verified(packed(template), digest(template)) == template

    def test_template_with_another_hash_is_not_verified(self) -> None:
        assert verified(packed(app("image: a")), digest(app("image: b"))) is None

    def test_template_is_packed_if_its_value_has_at_most_the_limit(self) -> None:
        noise = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(1000))
        templates = [{"spec": noise[:size]} for size in range(21_000, 21_300, 2)]
        values = {text: template for template in templates if (text := packed(template))}
        assert len(values) < len(templates)
        assert max(map(len, values)) == LARGEST_PACKED
        assert all(unpacked(text) == template for text, template in values.items())

    def test_template_is_packed_if_its_json_has_at_most_1_mib(self) -> None:
        """A longer one would be compressed well enough, but not be unpacked."""
        largest = {"spec": "x" * (1024 * 1024 - len('{"spec":""}'))}
        assert unpacked(packed(largest)) == largest
        assert packed({"spec": largest["spec"] + "x"}) is None

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(None, id="absent"),
            pytest.param("", id="empty"),
            pytest.param("no base64", id="not base64"),
            pytest.param(annotation(b'{"spec": {}}') + "!", id="a character outside base64"),
            pytest.param(base64.b64encode(b"no zlib").decode(), id="not compressed"),
            pytest.param(annotation(b"no json"), id="not JSON"),
            pytest.param(annotation(b"[" * 5000), id="nested too deeply for the parser"),
            pytest.param(annotation(b"1"), id="not an object"),
            pytest.param(annotation(b'{"spec": {}}'[:-2]), id="cut"),
            pytest.param(annotation(b'{"spec": {}}' + b" " * 2_000_000), id="larger than 1 MiB"),
            pytest.param("A" * (LARGEST_PACKED + 4), id="larger than the limit"),
        ],
    )
    def test_invalid_annotation_is_not_read(self, text: str | None) -> None:
        assert unpacked(text) is None

    def test_annotation_is_read_up_to_the_limit_of_levels(self) -> None:
        deepest, deeper = (
            annotation(b'{"spec":' * levels + b"0" + b"}" * levels)
            for levels in (DEEPEST, DEEPEST + 1)
        )
        assert unpacked(deepest) is not None
        assert unpacked(deeper) is None

    @pytest.mark.parametrize("levels", range(300, 1000, 100))
    def test_deeply_nested_annotation_raises_nothing(self, levels: int) -> None:
        text = annotation(b'{"spec":' * levels + b"[0]" + b"}" * levels)
        assert verified(text, digest(of())) is None
