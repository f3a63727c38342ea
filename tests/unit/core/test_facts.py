"""InitPipelines are read from JSON, and facts about one InitPipeline belong together."""

import json
from dataclasses import replace
from typing import Any

import pytest

from initpipeline.api.models import INT32_MAX
from initpipeline.api.names import (
    RERUN_ANNOTATION,
)
from initpipeline.core.errors import UnreadableError
from initpipeline.core.facts import Facts, Pipeline, list_with_unnamed_container
from tests.builders import fresh_pod, pipeline, pod, stamp


class TestPipeline:
    def test_hash_ignores_the_order_of_keys(self) -> None:
        one = pipeline().with_template({"metadata": {"a": 1, "b": 2}, "spec": {}}).build()
        other = pipeline().with_template({"spec": {}, "metadata": {"b": 2, "a": 1}}).build()
        assert one.template_hash == other.template_hash

    def test_hash_depends_on_the_order_of_init_containers(self) -> None:
        one, other = pipeline().inits("a", "b").build(), pipeline().inits("b", "a").build()
        assert one.template_hash != other.template_hash

    def test_template_is_returned_unchanged(self) -> None:
        template = {"spec": {"initContainers": [{"name": "ä", "image": "i"}]}}
        assert pipeline().with_template(template).build().template == template

    @pytest.mark.parametrize(
        ("annotations", "expected"),
        [
            pytest.param(None, None, id="no annotations"),
            pytest.param({RERUN_ANNOTATION: ""}, None, id="an empty token"),
            pytest.param({RERUN_ANNOTATION: "now"}, "now", id="a token"),
        ],
    )
    def test_rerun_token_is_read_from_the_annotation(
        self, annotations: Any, expected: str | None
    ) -> None:
        raw = pipeline().raw()
        raw["metadata"]["annotations"] = annotations
        assert Pipeline.from_api(raw).rerun_token == expected

    def test_answer_to_a_status_write_has_its_status_and_version(self) -> None:
        before = pipeline().build()
        raw = pipeline().raw()
        raw["metadata"]["resourceVersion"] = "77"
        raw["status"] = {"rerunCount": 2}
        answer = Pipeline.from_api_unhashed(raw, before)
        assert (answer.resource_version, answer.status.rerun_count) == ("77", 2)
        assert answer == replace(before, resource_version="77", status=answer.status)

    def test_template_of_an_answer_is_not_read_again(self) -> None:
        before = pipeline().build()
        raw = pipeline().raw()
        del raw["spec"]["template"]
        assert Pipeline.from_api_unhashed(raw, before).template == before.template

    def test_template_of_another_generation_is_read(self) -> None:
        before = pipeline().build()
        raw = pipeline().edited().of_generation(before.generation + 1).raw()
        answer = Pipeline.from_api_unhashed(raw, before)
        assert answer.template != before.template
        assert answer.hashed().template_hash != before.template_hash

    def test_metadata_is_read(self) -> None:
        raw = pipeline().of_generation(3).raw()
        raw["metadata"] |= {"namespace": "team", "name": "db", "uid": "u", "resourceVersion": "7"}
        found = Pipeline.from_api(raw)
        assert (found.namespace, found.name, found.uid) == ("team", "db", "u")
        assert (found.resource_version, found.generation, found.deleting) == ("7", 3, False)
        assert pipeline().deleting().build().deleting is True

    def test_size_is_that_of_the_object_without_status(self) -> None:
        raw = pipeline().raw()
        raw["spec"]["template"]["metadata"] = {"annotations": {"x": "ä" * 500}}
        whole = {"metadata": raw["metadata"], "spec": raw["spec"]}
        written = len(json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode())
        assert abs(Pipeline.from_api(raw).size - written) < 40

    @pytest.mark.parametrize(
        ("status", "policies", "known"),
        [
            pytest.param({"observedGeneration": 3}, {}, True, id="of this generation"),
            pytest.param({"observedGeneration": 2}, {}, False, id="of another generation"),
            pytest.param({}, {}, False, id="never observed"),
            pytest.param(
                {"observedGeneration": 3}, {"suspend": True}, False, id="suspended: the last run's"
            ),
            pytest.param(
                {"observedGeneration": 3, "templateHash": "0" * 16},
                {},
                False,
                id="by other rules",
            ),
        ],
    )
    def test_hash_in_status_is_used_if_it_is_of_this_template(
        self, status: dict[str, Any], policies: dict[str, Any], known: bool
    ) -> None:
        of = pipeline().policy(**policies).of_generation(3)
        hash_ = pipeline().edited().build().template_hash
        raw = {**of.raw(), "status": {"templateHash": hash_, **status}}
        assert Pipeline.from_api_unhashed(raw).template_hash == (hash_ if known else "")

    @pytest.mark.parametrize(("number", "readable"), [(INT32_MAX - 1, True), (INT32_MAX, False)])
    def test_run_without_a_next_number_is_unreadable(self, number: int, readable: bool) -> None:
        run = {"number": number, "trigger": "Created", "startTime": stamp(0)}
        raw = {**pipeline().raw(), "status": {"run": run}}
        if readable:
            assert Pipeline.from_api(raw).status.run is not None
        else:
            with pytest.raises(UnreadableError) as caught:
                Pipeline.from_api(raw)
            assert str(caught.value) == (
                "status.run.number: there is no next number for another run"
            )

    @pytest.mark.parametrize("field", ["containers", "initContainers"])
    def test_container_without_a_name_is_named_in_the_error(self, field: str) -> None:
        raw = pipeline().raw()
        raw["spec"]["template"]["spec"][field].append({"image": "x"})
        with pytest.raises(UnreadableError) as caught:
            Pipeline.from_api(raw)
        assert str(caught.value) == f"spec.template.spec.{field}: an item has no name"

    def test_missing_metadata_is_named_in_the_error(self) -> None:
        raw = pipeline().raw()
        del raw["metadata"]["uid"]
        with pytest.raises(UnreadableError) as caught:
            Pipeline.from_api(raw)
        assert str(caught.value) == "not a valid InitPipeline: KeyError: 'uid'"

    def test_too_deep_template_is_named_in_the_error(self) -> None:
        raw = pipeline().raw()
        deep: dict[str, Any] = {}
        for _ in range(100_000):
            deep = {"x": deep}
        raw["spec"]["template"]["spec"]["x"] = deep
        with pytest.raises(UnreadableError) as caught:
            Pipeline.from_api_unhashed(raw)
        assert str(caught.value) == "not a valid InitPipeline: it is nested too deeply"
        while deep:  # Python's own deallocation of it would recurse.
            deep = deep.pop("x")

    @pytest.mark.parametrize(
        "template",
        [
            pytest.param(None, id="nothing"),
            pytest.param({"spec": None}, id="null"),
            pytest.param({"spec": {"containers": None}}, id="no containers"),
            pytest.param({"spec": {"containers": [{"name": "app"}]}}, id="a name"),
        ],
    )
    def test_template_without_unnamed_containers_is_readable(self, template: object) -> None:
        assert list_with_unnamed_container(template) is None

    def test_spec_that_violates_the_schema_is_unreadable(self) -> None:
        raw = pipeline().policy(backoffLimit=-1).raw()
        with pytest.raises(UnreadableError, match=r"^spec\.backoffLimit: Input"):
            Pipeline.from_api(raw)

    def test_unknown_status_fields_are_ignored(self) -> None:
        raw = pipeline().raw()
        raw["status"] = {"fromTheFuture": 1, "rerunCount": 2}
        assert Pipeline.from_api(raw).status.rerun_count == 2

    def test_status_that_violates_the_schema_is_unreadable(self) -> None:
        raw = pipeline().raw()
        raw["status"] = {"rerunCount": -1}
        with pytest.raises(UnreadableError, match=r"^status\.rerunCount: Input"):
            Pipeline.from_api(raw)


def test_facts_with_another_version_of_the_pipeline_keep_the_rest() -> None:
    before, newer = pipeline().build(), pipeline().edited().build()
    facts = Facts(before, pod().build(), gone=fresh_pod().build())
    assert facts.with_pipeline(newer) == replace(facts, pipeline=newer)
    assert facts.with_pipeline(before) is facts
