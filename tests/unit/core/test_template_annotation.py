"""The template in an annotation of the Pod."""

import base64
import hashlib
import zlib

import pytest

from initpipeline.core.encoding import DEEPEST
from initpipeline.core.template import digest
from initpipeline.core.template_annotation import LARGEST_PACKED, packed, unpacked, verified
from tests.unit.core.templates import CORPUS, app, of


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
