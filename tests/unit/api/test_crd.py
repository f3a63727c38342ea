"""The CRD that is generated from the models."""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from crds.meanings import of_values
from initpipeline.api.crd import (
    custom_resource_definition,
    model_schema,
    resource_schema,
    with_list_keys,
)
from initpipeline.api.models import Time
from initpipeline.api.podtemplate import CORE, Definitions, Schema
from tests import libyaml
from tests.installation import CRDS

CORE_V1: Definitions = {
    f"{CORE}PodTemplateSpec": {
        "type": "object",
        "description": "The description in core/v1.",
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
    """The docstring of the enumeration."""

    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    """The docstring of
    the inner model."""

    count: int = Field(0, ge=0)


class Outer(BaseModel):
    """Each kind of field that a model may have."""

    text: str = Field(description="The description of the field.")
    color: Color = Color.RED
    explained: Color | None = Field(None, description="The color.")
    choice: Literal["a", "b"] = "a"
    at: Time | None = None
    maybe: Inner | None = None
    described: Inner = Field(Inner(), description="The description of the field.")
    many: tuple[Inner, ...] = ()
    open: dict[str, Any] = {}
    texts: dict[str, str] = {}


MEANINGS = {"Color": {"red": "Like a rose.", "blue": "Like the sky."}}
OUTER: Mapping[str, Schema] = model_schema(Outer.model_json_schema(), MEANINGS)["properties"]
INNER: Schema = {"count": {"type": "integer", "minimum": 0, "default": 0}}


class TestModelSchema:
    """The structural form of a pydantic model's schema."""

    @pytest.mark.parametrize(
        ("field", "schema"),
        [
            ("text", {"type": "string", "description": "The description of the field."}),
            ("choice", {"type": "string", "enum": ["a", "b"], "default": "a"}),
            ("at", {"type": "string", "format": "date-time"}),
            ("open", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
            ("texts", {"type": "object", "additionalProperties": {"type": "string"}}),
        ],
    )
    def test_field_has_only_structural_keywords(self, field: str, schema: Schema) -> None:
        assert OUTER[field] == schema

    def test_enumeration_keeps_values_and_default(self) -> None:
        assert OUTER["color"]["enum"] == ["red", "blue"]
        assert OUTER["color"]["default"] == "red"

    def test_enumeration_description_lists_the_meanings_of_the_values(self) -> None:
        values = "- red: Like a rose.\n- blue: Like the sky."
        assert OUTER["color"]["description"] == values
        assert OUTER["explained"]["description"] == f"The color.\n{values}"

    def test_nested_model_is_inlined_with_its_docstring_on_one_line(self) -> None:
        docstring = "The docstring of the inner model."
        inner = {"type": "object", "description": docstring, "properties": INNER}
        assert OUTER["maybe"] == inner
        assert OUTER["many"] == {"type": "array", "items": inner}

    def test_description_of_a_field_replaces_docstring_of_its_model(self) -> None:
        assert OUTER["described"]["description"] == "The description of the field."

    def test_only_fields_without_default_are_required(self) -> None:
        assert model_schema(Outer.model_json_schema(), MEANINGS)["required"] == ["text"]

    def test_union_of_types_is_rejected(self) -> None:
        class Union(BaseModel):
            either: int | str

        with pytest.raises(ValueError, match="one type"):
            model_schema(Union.model_json_schema(), {})


class TestListKeys:
    """Lists of type map, which server-side apply merges by a key."""

    def test_list_gets_type_map_and_its_key(self) -> None:
        items = {"type": "object", "required": ["type"], "properties": {"type": {}}}
        schema = {"properties": {"conditions": {"type": "array", "items": items}}}
        conditions = with_list_keys(schema)["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]

    def test_optional_key_is_rejected(self) -> None:
        items = {"type": "object", "properties": {"name": {}}}
        schema = {"properties": {"initPolicies": {"type": "array", "items": items}}}
        with pytest.raises(ValueError, match="name"):
            with_list_keys(schema)


class TestResource:
    """The schema of an InitPipeline."""

    SCHEMA = resource_schema(CORE_V1, of_values())
    SPEC: Schema = SCHEMA["properties"]["spec"]
    STATUS: Schema = SCHEMA["properties"]["status"]

    def test_template_is_required(self) -> None:
        assert self.SCHEMA["required"] == ["spec"]
        assert self.SPEC["required"] == ["template"]

    def test_template_has_the_description_of_the_model(self) -> None:
        template = self.SPEC["properties"]["template"]
        assert template["type"] == "object"
        assert "At least one init container" in template["description"]

    def test_template_requires_containers_and_init_containers(self) -> None:
        template = self.SPEC["properties"]["template"]
        pod = template["properties"]["spec"]
        assert template["required"] == ["spec"]
        assert pod["required"] == ["os", "containers", "initContainers"]
        assert {name for name, field in pod["properties"].items() if "minItems" in field} == {
            "containers",
            "initContainers",
        }

    def test_template_has_no_defaults(self) -> None:
        """A new default would change templates that are stored, and start runs."""
        stored = libyaml.safe_load((CRDS / "initpipelines.yaml").read_text())["spec"]["versions"][0]
        spec = stored["schema"]["openAPIV3Schema"]["properties"]["spec"]
        template = spec["properties"]["template"]
        assert [path for path, schema in nodes(template) if "default" in schema] == []

    def test_name_is_limited_to_the_length_of_a_label_value(self) -> None:
        assert self.SCHEMA["properties"]["metadata"]["properties"]["name"]["maxLength"] == 63

    def test_init_container_statuses_keep_unknown_fields(self) -> None:
        mirror = self.STATUS["properties"]["initContainerStatuses"]
        assert mirror["items"]["x-kubernetes-preserve-unknown-fields"] is True

    def test_conditions_are_the_only_part_of_the_status_that_is_not_atomic(self) -> None:
        status = self.STATUS["properties"]
        kinds = {
            name: field.get("x-kubernetes-list-type") or field.get("x-kubernetes-map-type")
            for name, field in status.items()
            if field["type"] in {"array", "object"}
        }
        assert kinds.pop("conditions") == "map"
        assert status["conditions"]["x-kubernetes-list-map-keys"] == ["type"]
        assert kinds == {
            "effectiveResources": "atomic",
            "history": "atomic",
            "initContainerStatuses": "atomic",
            "run": "atomic",
        }

    def test_status_has_no_defaults_except_observed_generation(self) -> None:
        assert self.STATUS["default"] == {}
        properties = dict(self.STATUS["properties"])
        assert properties.pop("observedGeneration")["default"] == -1
        assert "'default'" not in repr(properties)

    def test_every_object_of_the_status_keeps_unknown_fields(self) -> None:
        """Through them, an older CRD keeps what a newer operator writes."""
        pruned = [
            path
            for path, schema in nodes(self.STATUS)
            if "properties" in schema and not schema.get(PRESERVE)
        ]
        assert pruned == []

    def test_spec_prunes_unknown_fields(self) -> None:
        policies = {k: v for k, v in self.SPEC["properties"].items() if k != "template"}
        kept = [path for path, schema in nodes({"properties": policies}) if PRESERVE in schema]
        assert kept == []

    def test_enumerations_are_closed_in_spec_only(self) -> None:
        """An older CRD would refuse the status of a newer operator."""
        closed = {path for path, schema in nodes(self.SCHEMA) if "enum" in schema}
        assert closed == {
            "spec.logTails",
            "spec.rerunPolicy",
            "spec.rerunStrategy",
            "status.conditions.status",
        }

    def test_open_enumeration_lists_its_values_and_limits_others(self) -> None:
        trigger = self.STATUS["properties"]["run"]["properties"]["trigger"]
        assert "- Created: The InitPipeline was created." in trigger["description"]
        assert (trigger["minLength"], trigger["maxLength"]) == (1, 253)

    def test_condition_has_the_required_fields_of_metav1(self) -> None:
        condition = self.STATUS["properties"]["conditions"]["items"]
        expected = {"lastTransitionTime", "message", "reason", "status", "type"}
        assert set(condition["required"]) == expected

    def test_descriptions_break_lines_only_between_values(self) -> None:
        broken = [text for text in descriptions(self.SCHEMA) if re.search(r"\n(?!- )", text)]
        assert broken == []


PRESERVE = "x-kubernetes-preserve-unknown-fields"


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yields each schema below a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}".lstrip("."))
    for keyword in {"items", "additionalProperties"} & schema.keys():
        yield from nodes(schema[keyword], path)


def descriptions(schema: Any) -> Iterator[str]:
    """Yields each description in a schema."""
    if isinstance(schema, dict):
        if isinstance(schema.get("description"), str):
            yield schema["description"]
        for child in schema.values():
            yield from descriptions(child)


def test_definition_has_the_names_of_the_resource() -> None:
    definition = custom_resource_definition(CORE_V1, of_values())
    assert definition["metadata"]["name"] == "initpipelines.initpipeline.dev"
    assert definition["spec"]["scope"] == "Namespaced"
    assert definition["spec"]["names"] == {
        "kind": "InitPipeline",
        "listKind": "InitPipelineList",
        "plural": "initpipelines",
        "singular": "initpipeline",
        "shortNames": ["ipl"],
    }
