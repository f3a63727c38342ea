"""What the operator says of a pipeline whose Pod is not to be had, where the CRD is installed, and
no admission policy: the API server's words, or its own where the API server would take the Pod.
"""

import re

import pytest

from initpipeline.api.reasons import Reason
from initpipeline.core import validation
from initpipeline.core.facts import Pipeline
from tests.builders import pipeline
from tests.contract.admission_table import REFUSED, Case, refused, template_of
from tests.contract.door import Door
from tests.contract.operator_world import World, condition

pytest_plugins = ["tests.contract.operator_fixtures"]


@refused("policy")
def test_every_word_of_the_policy_is_said_by_one_of_them(door: Door, case: Case) -> None:
    ours = validation.refusal(Pipeline.from_api(pipeline().raw() | {"spec": case.body["spec"]}))
    the_servers = door.pod_refusal(case.template)
    for error in re.split(r", (?=spec\.)", case.message.removeprefix("[").removesuffix("]")):
        of_the_pod = error.replace("spec.template.spec.", "spec.")
        said_by_us = ours is not None and error in ours.message
        said_by_it = the_servers is not None and of_the_pod in the_servers.message
        assert said_by_us is not said_by_it, error


@pytest.mark.usefixtures("shared_operator")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("sidecars alone", REFUSED["sidecars alone"]["policy"], id="the operator's"),
        pytest.param(
            "step with a readiness probe",
            'Pod "demo" is invalid: spec.initContainers[0].readinessProbe: Forbidden: '
            "may not be set for init containers without restartPolicy=Always",
            id="the API server's",
        ),
    ],
)
def test_the_condition_has_the_words(world: World, line: str, words: str) -> None:
    world.create(pipeline().with_template(template_of(REFUSED[line])))

    world.wait("Stalled", lambda status: condition(status, "Stalled")["status"] == "True")
    said = condition(world.status(), "Stalled")
    assert (said["reason"], said["message"]) == (Reason.INVALID_TEMPLATE, words)
    assert world.pod() is None
