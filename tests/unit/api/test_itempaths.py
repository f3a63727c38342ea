"""The number of list items and map entries of a template, and the policy's expression for it."""

from typing import Any

import pytest

from crds import itempaths as generated
from initpipeline.api.itempaths import MOST_ITEMS, number_of_items

SCHEMA: dict[str, Any] = {
    "properties": {
        "metadata": {"properties": {"labels": {"additionalProperties": {"type": "string"}}}},
        "spec": {
            "properties": {
                "containers": {
                    "items": {"properties": {"args": {"items": {}}, "name": {"type": "string"}}}
                },
                "volumes": {
                    "items": {
                        "properties": {
                            "projected": {
                                "properties": {
                                    "sources": {"items": {"properties": {"items": {"items": {}}}}}
                                }
                            }
                        }
                    }
                },
                "ephemeralContainers": {"maxItems": 0, "items": {}},
            }
        },
    }
}
PATHS = [
    "metadata.labels",
    "spec.containers",
    "spec.containers[].args",
    "spec.volumes",
    "spec.volumes[].projected.sources",
    "spec.volumes[].projected.sources[].items",
]


class TestNumberOfItems:
    @pytest.mark.parametrize(
        ("template", "number"),
        [
            pytest.param({}, 0, id="nothing"),
            pytest.param({"spec": {"containers": [{"name": "a"}]}}, 1, id="item"),
            pytest.param({"spec": {"containers": [{"args": ["", ""]}, {}]}}, 4, id="nested items"),
            pytest.param(
                {"spec": {"initContainers": [{"args": [""]}], "containers": []}},
                2,
                id="init container",
            ),
            pytest.param({"metadata": {"labels": {"a": "", "b": ""}}}, 2, id="map entries"),
            pytest.param(
                {
                    "spec": {
                        "volumes": [{"projected": {"sources": [{"secret": {"items": [1, 2]}}]}}]
                    }
                },
                4,
                id="three levels",
            ),
            pytest.param({"spec": {"tolerations": [None, {}]}}, 2, id="null in a list"),
            pytest.param({"spec": {"hostAliases": [None, {"hostnames": ["a"]}]}}, 3, id="null"),
            pytest.param({"spec": {"containers": None, "volumes": 1}}, 0, id="other types"),
            pytest.param({"spec": {"affinity": "a"}}, 0, id="string instead of an object"),
            pytest.param({"spec": {"affinity": [{"nodeAffinity": {}}]}}, 0, id="list, not object"),
            pytest.param({"spec": {"containers": {"args": [""]}}}, 1, id="object, not list"),
            pytest.param({"spec": {"unknown": [1], "hostname": "a"}}, 0, id="other fields"),
        ],
    )
    def test_items_of_all_lists_and_maps_are_counted(
        self, template: dict[str, Any], number: int
    ) -> None:
        assert number_of_items(template) == number


class TestGenerated:
    def test_paths_are_those_of_the_lists_and_maps_that_may_have_items(self) -> None:
        assert generated.paths(SCHEMA) == PATHS

    def test_paths_become_a_tree_of_lists(self) -> None:
        assert generated.lists_by_path(PATHS) == {
            "metadata.labels": {},
            "spec.containers": {"args": {}},
            "spec.volumes": {"projected.sources": {"items": {}}},
        }

    def test_expression_replaces_the_generated_part_only(self) -> None:
        policy = f"before\n{generated.BEGIN}old\n{generated.END}after\n"
        changed = generated.policy_with_expression(policy, PATHS)
        assert changed.startswith(f"before\n{generated.BEGIN}    - name: containers\n")
        assert changed.endswith(f"{generated.END}after\n")
        assert "c.?args.orValue([]).size()" in changed
        assert "object.spec.template.?metadata.?labels.orValue([]).size()" in changed
        assert "old" not in changed
        assert generated.policy_with_expression(changed, PATHS) == changed

    def test_policy_without_a_generated_part_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"admission\.yaml has no generated part"):
            generated.policy_with_expression("spec: {}\n", PATHS)

    def test_policy_has_the_limit_of_the_operator(self) -> None:
        assert f"variables.items <= {MOST_ITEMS} " in generated.POLICY_FILE.read_text()
