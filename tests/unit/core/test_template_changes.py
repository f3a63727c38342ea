"""The fields in which two templates differ."""

from typing import Any

import pytest

from initpipeline.api.models import Cause
from initpipeline.core.template_changes import changed_fields_message, changes
from tests.unit.core.templates import app, init, metadata, of, requests, volume


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
