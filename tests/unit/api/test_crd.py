"""What a CRD makes of the models."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from initpipeline.api.crd import (
    custom_resource_definition,
    model_schema,
    resource_schema,
    with_list_keys,
)
from initpipeline.api.models import Time
from initpipeline.api.podtemplate import CORE, Definitions, Schema

CORE_V1: Definitions = {
    f"{CORE}PodTemplateSpec": {
        "type": "object",
        "description": "Kubernetes' words.",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["os"],
                "properties": {
                    "os": {"type": "string"},
                    "containers": {"type": "array", "items": {"type": "object"}},
                    "initContainers": {"type": "array", "items": {"type": "object"}},
                    "volumes": {"type": "array", "items": {"type": "object"}},
                },
            }
        },
    },
    f"{CORE}ContainerStatus": {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}},
    },
}


class Color(StrEnum):
    """Words to choose from."""

    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """The inner model's words."""

    count: int = Field(0, ge=0)


class Outer(BaseModel):
    """Each kind of field that a model may have."""

    text: str = Field(description="The field's words.")
    color: Color = Color.RED
    choice: Literal["a", "b"] = "a"
    at: Time | None = None
    maybe: Inner | None = None
    described: Inner = Field(Inner(), description="The field's words.")
    many: tuple[Inner, ...] = ()
    open: dict[str, Any] = {}
    texts: dict[str, str] = {}


OUTER: Mapping[str, Schema] = model_schema(Outer.model_json_schema())["properties"]
INNER: Schema = {"count": {"type": "integer", "minimum": 0, "default": 0}}


class TestModelSchema:
    """A pydantic model in structural form."""

    @pytest.mark.parametrize(
        ("field", "schema"),
        [
            ("text", {"type": "string", "description": "The field's words."}),
            ("choice", {"type": "string", "enum": ["a", "b"], "default": "a"}),
            ("at", {"type": "string", "format": "date-time"}),
            ("open", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
            ("texts", {"type": "object", "additionalProperties": {"type": "string"}}),
        ],
    )
    def test_field(self, field: str, schema: Schema) -> None:
        assert OUTER[field] == schema

    def test_enumeration(self) -> None:
        assert OUTER["color"]["enum"] == ["red", "blue"]
        assert OUTER["color"]["default"] == "red"

    def test_model_in_a_field(self) -> None:
        words = "The inner model's words."
        inner = {"type": "object", "description": words, "properties": INNER}
        assert OUTER["maybe"] == inner
        assert OUTER["many"] == {"type": "array", "items": inner}

    def test_words_of_the_field_win(self) -> None:
        assert OUTER["described"]["description"] == "The field's words."

    def test_only_what_has_no_default_is_required(self) -> None:
        assert model_schema(Outer.model_json_schema())["required"] == ["text"]

    def test_a_union_has_no_structural_form(self) -> None:
        class Union(BaseModel):
            either: int | str

        with pytest.raises(ValueError, match="one type"):
            model_schema(Union.model_json_schema())


class TestListKeys:
    """Lists of named things are keyed by the name."""

    def test_marked(self) -> None:
        items = {"type": "object", "required": ["type"], "properties": {"type": {}}}
        schema = {"properties": {"conditions": {"type": "array", "items": items}}}
        conditions = with_list_keys(schema)["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]

    def test_a_key_has_to_be_required(self) -> None:
        items = {"type": "object", "properties": {"number": {}}}
        schema = {"properties": {"history": {"type": "array", "items": items}}}
        with pytest.raises(ValueError, match="number"):
            with_list_keys(schema)


class TestResource:
    """The schema of an InitPipeline."""

    SCHEMA = resource_schema(CORE_V1)
    SPEC: Schema = SCHEMA["properties"]["spec"]
    STATUS: Schema = SCHEMA["properties"]["status"]

    def test_a_template_is_required(self) -> None:
        assert self.SCHEMA["required"] == ["spec"]
        assert self.SPEC["required"] == ["template"]

    def test_the_template_is_a_pod_s_in_our_words(self) -> None:
        template = self.SPEC["properties"]["template"]
        assert template["type"] == "object"
        assert "At least one init container" in template["description"]

    def test_the_template_has_to_have_containers_of_both_kinds(self) -> None:
        template = self.SPEC["properties"]["template"]
        pod = template["properties"]["spec"]
        assert template["required"] == ["spec"]
        assert pod["required"] == ["os", "containers", "initContainers"]
        assert {name for name, field in pod["properties"].items() if "minItems" in field} == {
            "containers",
            "initContainers",
        }

    def test_the_name_fits_into_a_label(self) -> None:
        assert self.SCHEMA["properties"]["metadata"]["properties"]["name"]["maxLength"] == 63

    def test_container_statuses_are_mirrored(self) -> None:
        mirror = self.STATUS["properties"]["initContainerStatuses"]
        assert mirror["items"]["x-kubernetes-preserve-unknown-fields"] is True
        assert mirror["x-kubernetes-list-map-keys"] == ["name"]

    def test_a_status_is_what_the_operator_wrote_but_for_the_generation(self) -> None:
        assert self.STATUS["default"] == {}
        properties = dict(self.STATUS["properties"])
        assert properties.pop("observedGeneration")["default"] == -1
        assert "'default'" not in repr(properties)

    @pytest.mark.parametrize(
        ("list_", "key"), [("conditions", "type"), ("history", "number")], ids=str
    )
    def test_lists_of_named_things(self, list_: str, key: str) -> None:
        assert self.STATUS["properties"][list_]["x-kubernetes-list-map-keys"] == [key]


def test_the_definition_says_how_the_resource_is_called() -> None:
    definition = custom_resource_definition(CORE_V1)
    assert definition["metadata"]["name"] == "initpipelines.initpipeline.dev"
    assert definition["spec"]["scope"] == "Namespaced"
    assert definition["spec"]["names"] == {
        "kind": "InitPipeline",
        "listKind": "InitPipelineList",
        "plural": "initpipelines",
        "singular": "initpipeline",
        "shortNames": ["ipl"],
        "categories": ["all"],
    }
