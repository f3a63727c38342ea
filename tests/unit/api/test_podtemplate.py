"""The conversion of published core/v1 schemas to structural schemas."""

from typing import Any

import pytest

from initpipeline.api.podtemplate import (
    CORE,
    MACHINERY,
    QUANTITY,
    Definitions,
    Schema,
    container_status_schema,
    first_sentence,
    pod_template_schema,
)

STATUS: Definitions = {
    f"{CORE}ContainerStatus": {
        "type": "object",
        "required": ["name", "image"],
        "properties": {
            "name": {"type": "string"},
            "image": {"type": "string"},
            "stopSignal": {"type": "string", "enum": ["SIGTERM"]},
            "state": {
                "type": "object",
                "properties": {"exitCode": {"type": "integer"}},
                "required": ["exitCode"],
            },
            "mounts": {
                "type": "array",
                "items": {"type": "object", "properties": {"path": {"type": "string"}}},
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["path"],
            },
        },
    }
}


def reference(name: str) -> Schema:
    """Returns a reference to a definition, as the API server publishes it."""
    return {"$ref": f"#/components/schemas/{name}"}


def field_of(type_: str, field: Schema, required: bool = False, **others: Schema) -> Any:
    """Converts field "it" of a type. The others are definitions that it may refer to."""
    return object_of(type_, {"it": field}, ["it"] if required else [], **others)["properties"]["it"]


def object_of(type_: str, fields: Schema, required: list[str], **others: Schema) -> Schema:
    """Converts a type with these fields, as part of a template."""
    definitions: Definitions = {
        f"{CORE}PodTemplateSpec": {"type": "object", "properties": {"x": reference(CORE + type_)}},
        f"{CORE}{type_}": {"type": "object", "properties": fields, "required": required},
        **{CORE + name: schema for name, schema in others.items()},
    }
    schema: Schema = pod_template_schema(definitions)["properties"]["x"]
    return schema


class TestFirstSentence:
    """Descriptions are reduced to their first sentence."""

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("One. Two.", "One. Two."),  # a sentence has two terms at least
            ("It is one. It is two.", "It is one."),
            ("Is it? It is.", "Is it?"),
            ("no end", "no end"),
            ("", ""),
            ("A  folded\n line. Next.", "A folded line."),
            ("first paragraph\n\nSecond paragraph.", "first paragraph"),
            ("Near (e.g. in a zone, etc. as set). More.", "Near (e.g. in a zone, etc. as set)."),
            ("Some name, e.g. Alpha or Beta. More.", "Some name, e.g. Alpha or Beta."),
            ("No operation (i.e. Nothing). More.", "No operation (i.e. Nothing)."),
            ("On failure, contention, etc. The handler runs.", "On failure, contention, etc."),
            ("Written as v1.2 or 0.5. More.", "Written as v1.2 or 0.5."),
            ("What it does. - One way. - Another.", "What it does."),
            ("What it is. https://example.com/more", "What it is."),
            ("Required. A list of terms. ORed.", "Required. A list of terms."),
            ("It ends here.", "It ends here."),
            ("A mount of NFS More info: https://example.com/a.md#b", "A mount of NFS"),
        ],
    )
    def test_first_sentence_is_kept(self, text: str, sentence: str) -> None:
        assert first_sentence(text) == sentence

    @pytest.mark.parametrize(
        ("description", "short"),
        [
            ("It is the name of a Secret.", "The name of a Secret."),
            ("it represents what type of medium is used.", "What type of medium is used."),
            ("It indicates whether links are injected.", "Whether links are injected."),
            ("It specifies a list of names.", "A list of names."),
            ("Other is the name of a Secret.", "Other is the name of a Secret."),
            ("It is Optional: it is the path to a key.", "The path to a key."),
            ("Optional: mode of the file.", "Mode of the file."),
            ("It is optional.", "It is optional."),
            ("It determines if it runs on the host.", "It determines if it runs on the host."),
            ("It", "It"),
        ],
    )
    def test_name_of_the_field_at_the_start_is_left_out(self, description: str, short: str) -> None:
        field = {"type": "string", "description": description}
        assert field_of("Some", field)["description"] == short

    def test_description_of_a_referred_type_starts_without_the_name(self) -> None:
        other = {"type": "string", "description": "It is the name of a Secret."}
        field = reference(f"{CORE}Other")
        assert field_of("Some", field, Other=other)["description"] == "The name of a Secret."


class TestStructure:
    """A structural schema has no references, and only keywords that a CRD knows."""

    @pytest.mark.parametrize(
        "field", [reference(f"{CORE}Other"), {"allOf": [reference(f"{CORE}Other")]}]
    )
    def test_reference_is_replaced_by_its_definition(self, field: Schema) -> None:
        other = {"type": "string", "description": "Its own description."}
        assert field_of("Some", field, Other=other) == other

    def test_description_of_a_field_replaces_that_of_its_type(self) -> None:
        field = {"description": "Used here.", "allOf": [reference(f"{CORE}Other")]}
        other = {"type": "string", "description": "Its own description."}
        assert field_of("Some", field, Other=other)["description"] == "Used here."

    def test_references_in_lists_and_maps_are_replaced(self) -> None:
        other = {"type": "string"}
        listed = {"type": "array", "items": reference(f"{CORE}Other")}
        mapped = {"type": "object", "additionalProperties": reference(f"{CORE}Other")}
        assert field_of("Some", listed, Other=other)["items"]["type"] == "string"
        assert field_of("Some", mapped, Other=other)["additionalProperties"] == other

    def test_defaults_and_patch_strategies_are_dropped(self) -> None:
        field = {"type": "string", "default": "TCP", "x-kubernetes-patch-strategy": "merge"}
        assert field_of("Some", field) == {"type": "string"}

    def test_unknown_keyword_is_rejected(self) -> None:
        with pytest.raises(ValueError, match="no rule for the keywords x-kubernetes-new"):
            field_of("Some", {"type": "string", "x-kubernetes-new": True})

    def test_quantity_has_no_type_and_keeps_its_description(self) -> None:
        name = f"{MACHINERY}api.resource.Quantity"
        definitions = {f"{CORE}PodTemplateSpec": {"allOf": [reference(name)], "description": "It."}}
        assert pod_template_schema(definitions) == QUANTITY | {"description": "It."}
        assert "type" not in QUANTITY


class TestLeniency:
    """Fields in which the published schema is stricter than the API server."""

    def test_required_field_stays_required(self) -> None:
        fields = {"a": {"type": "string"}, "b": {"type": "string"}}
        assert object_of("Some", fields, ["a"])["required"] == ["a"]

    def test_field_that_a_pod_may_omit_is_not_required(self) -> None:
        fields = {"name": {"type": "string"}, "value": {"type": "string"}}
        assert object_of("HTTPHeader", fields, ["name", "value"])["required"] == ["name"]
        assert "required" not in object_of("SleepAction", {"seconds": {}}, ["seconds"])

    @pytest.mark.parametrize(
        ("required", "values"), [(False, ["", "A", "B"]), (True, ["A", "B"])], ids=repr
    )
    def test_only_an_optional_enumeration_may_be_empty(
        self, required: bool, values: list[str]
    ) -> None:
        field = {"type": "string", "enum": ["A", "B"]}
        assert field_of("Some", field, required=required)["enum"] == values

    def test_list_of_type_map_keeps_its_keys(self) -> None:
        items = {"type": "object"}
        keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        field = {"type": "array", "items": items} | keyed
        assert field_of("Some", field) == field

    def test_list_with_allowed_duplicates_becomes_atomic(self) -> None:
        keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
        env = {"type": "array", "items": {"type": "object"}} | keyed
        plain = {"type": "array", "items": {"type": "object", "nullable": True}}
        assert object_of("Container", {"env": env}, [])["properties"]["env"] == plain

    @pytest.mark.parametrize("kind", ["atomic", "set"])
    def test_list_without_keys_becomes_atomic(self, kind: str) -> None:
        field = {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": kind}
        plain = {"type": "array", "items": {"type": "string", "nullable": True}}
        assert field_of("Some", field) == plain

    def test_ephemeral_containers_must_be_empty(self) -> None:
        fields = {"ephemeralContainers": {"type": "array", "items": {"type": "object"}}}
        schema = object_of("PodSpec", fields, [])["properties"]["ephemeralContainers"]
        assert schema["maxItems"] == 0


class TestContainerStatus:
    """The mirror of a container status, which rejects and prunes nothing."""

    def test_only_name_is_required(self) -> None:
        schema = container_status_schema(STATUS)
        assert schema["required"] == ["name"]
        assert "required" not in schema["properties"]["state"]

    def test_unknown_fields_are_kept_at_each_level(self) -> None:
        schema = container_status_schema(STATUS)
        state, mounts = schema["properties"]["state"], schema["properties"]["mounts"]
        for level in (schema, state, mounts["items"]):
            assert level["x-kubernetes-preserve-unknown-fields"] is True

    def test_unknown_values_and_duplicates_are_accepted(self) -> None:
        fields = container_status_schema(STATUS)["properties"]
        assert fields["stopSignal"] == {"type": "string"}
        assert fields["mounts"].keys() == {"type", "items"}
