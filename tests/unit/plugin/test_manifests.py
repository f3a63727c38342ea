"""Files of manifests have the same values when they are read by kubectl, read here, or written."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.plugin.manifests import Document, ManifestError, read, to_yaml

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}


def value_of(plain: str) -> Any:
    """Returns the value that is read for a plain YAML scalar."""
    [document] = read(f"kind: Pod\nvalue: {plain}\n")
    return document.manifest["value"]


class TestRead:
    @pytest.mark.parametrize(
        ("plain", "value"),
        [
            pytest.param("22:22", "22:22", id="no sexagesimal number"),
            pytest.param("8080:80", "8080:80", id="ports"),
            pytest.param("2026-01-01", "2026-01-01", id="no date"),
            pytest.param("0644", 420, id="octal"),
            pytest.param("0o17", 15, id="octal of YAML 1.2"),
            pytest.param("0x1F", 31, id="hexadecimal"),
            pytest.param("1_000", 1000, id="underscores"),
            pytest.param("-5", -5, id="negative"),
            pytest.param("0.5", 0.5, id="fraction"),
            pytest.param("1e3", 1000.0, id="exponent"),
            pytest.param("1.2.3", "1.2.3", id="version"),
            pytest.param("500m", "500m", id="quantity"),
            pytest.param("y", True, id="y is true"),
            pytest.param("off", False, id="off is false"),
            pytest.param("~", None, id="null"),
            pytest.param("", None, id="empty is null"),
            pytest.param('"y"', "y", id="quoted"),
        ],
    )
    def test_plain_scalar_has_the_type_of_kubectl(self, plain: str, value: object) -> None:
        assert value_of(plain) == value
        assert type(value_of(plain)) is type(value)

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            pytest.param("kind: A\n---\nkind: B\n", ["A", "B"], id="several documents"),
            pytest.param("---\n# nothing\n---\nkind: A\n---\n", ["A"], id="empty documents"),
            pytest.param("--- # one\nkind: A\n--- \nkind: B\n", ["A", "B"], id="marked separators"),
            pytest.param(json.dumps(POD), ["Pod"], id="JSON"),
            pytest.param(json.dumps(POD, indent="\t"), ["Pod"], id="JSON with tabs"),
            pytest.param(f"{json.dumps(POD)}\n{json.dumps(POD)}", ["Pod", "Pod"], id="JSON stream"),
            pytest.param("{kind: A, spec: {b: [c]}}\n", ["A"], id="YAML that begins like JSON"),
            pytest.param(
                "kind: List\nitems: [{kind: A}, {kind: B}]\n", ["A", "B"], id="list of anything"
            ),
            pytest.param(
                "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a}}]\n",
                ["Pod"],
                id="typed list",
            ),
            pytest.param("", [], id="nothing"),
        ],
    )
    def test_objects_are_returned_in_order(self, text: str, names: list[str]) -> None:
        assert [document.manifest["kind"] for document in read(text)] == names

    def test_items_of_a_typed_list_have_its_version_and_kind(self) -> None:
        [document] = read("apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a}}]\n")
        assert document.manifest == POD

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("kind: [", "not YAML", id="broken"),
            pytest.param("kind: A\n  b: c\n", "line 2", id="broken, with its place"),
            pytest.param("{{- if .Values.on }}\nkind: A\n", "helm template", id="a chart"),
            pytest.param("hello", "document 1 is not a Kubernetes object", id="text"),
            pytest.param("kind: A\n---\n- b\n", "document 2", id="list"),
            pytest.param(
                "kind: List\nitems: [1]\n", "has a list item without a kind", id="list of numbers"
            ),
            pytest.param("kind: !!python/object:os.system {}\n", "not YAML", id="Python object"),
        ],
    )
    def test_invalid_file_is_an_error_that_names_the_problem(self, text: str, message: str) -> None:
        with pytest.raises(ManifestError, match=message):
            read(text)


class TestWrite:
    @pytest.mark.parametrize(
        "text",
        [
            *("y", "N", "on", "1e3", "12e5", "0o17", "0644", "22:22", "2026-01-01", "1_000", "~"),
            *("", "null", "<<", "=", "- a", "# a", "a: b", "line\nline\n", " a ", "a \nb", "ü"),
            *("\t", "\0"),
        ],
        ids=repr,
    )
    def test_string_stays_a_string(self, text: str) -> None:
        written = to_yaml({"kind": "A", "value": text})
        assert read(written)[0].manifest["value"] == text
        assert yaml.safe_load(written)["value"] == text, "other YAML 1.1 parsers"

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text(st.characters(exclude_categories=["Cs"]))
            | st.text("ynoffe1.0:-_ \n#xX~\x85\r", max_size=6),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text("yn1e0-.", min_size=1, max_size=4), inner, max_size=3)
            ),
        )
    )
    def test_any_value_is_read_back_unchanged(self, value: Any) -> None:
        written = to_yaml({"kind": "A", "value": value})
        assert read(written)[0].manifest["value"] == value
        assert yaml.safe_load(written)["value"] == value

    @pytest.mark.parametrize("text", ["y", "n", "1e3", "0o17"])
    def test_string_that_pyyaml_would_not_quote_is_quoted(self, text: str) -> None:
        assert to_yaml({"value": text}) == f"value: '{text}'\n"

    def test_script_is_written_as_a_block(self) -> None:
        assert to_yaml({"args": ["if a\nthen b\n"]}) == "args:\n- |\n  if a\n  then b\n"

    def test_keys_stay_in_order_without_anchors(self) -> None:
        labels = {"z": "1", "a": "2"}
        assert (
            to_yaml({"b": labels, "a": labels})
            == "b:\n  z: '1'\n  a: '2'\na:\n  z: '1'\n  a: '2'\n"
        )

    def test_long_line_is_not_broken(self) -> None:
        assert to_yaml({"a": "text " * 99 + "end"}).count("\n") == 1

    def test_document_keeps_its_comments(self) -> None:
        text = "# why\nkind: A   # what\n"
        [first, _] = read(f"{text}---\nkind: B\n")
        assert first.rendered() == text

    def test_list_item_is_written_as_yaml(self) -> None:
        assert Document({"kind": "A"}).rendered() == "kind: A\n"
