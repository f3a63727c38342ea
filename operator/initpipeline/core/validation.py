"""What a pipeline asks of its spec that the API server does not ask of a Pod.

The rules, and their words, are those of manifests/base/admission.yaml. Where that is installed no
such spec gets this far. The mistakes that the API server refuses in a Pod are left to it.
"""

from collections.abc import Iterator

from initpipeline.api.models import Policies
from initpipeline.api.reasons import Reason
from initpipeline.core.facts import Container, Pipeline, Refusal, init_containers

_NO_SIDECAR = "without restartPolicy=Always"


def refusal(pipeline: Pipeline) -> Refusal | None:
    """Returns why no Pod is created for this pipeline. None: its spec is valid.

    The refusal is final: only a changed spec helps. Several mistakes are written as the API server
    writes them: ``[first, second]``.
    """
    containers = init_containers(pipeline.template["spec"])
    errors = [*_steps(containers), *_init_policies(pipeline.policies, containers)]
    if not errors:
        return None
    message = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
    return Refusal(Reason.INVALID_TEMPLATE, message, final=True)


def _steps(containers: tuple[Container, ...]) -> Iterator[str]:
    """A sidecar alone completes nothing: the pipeline would be initialized by its start."""
    if all(container.sidecar for container in containers):
        yield (
            "spec.template.spec.initContainers: Required value: "
            f"must have at least one init container {_NO_SIDECAR}"
        )


def _init_policies(policies: Policies, containers: tuple[Container, ...]) -> Iterator[str]:
    """A limit of nothing would be obeyed silently for ever."""
    sidecars = {container.name: container.sidecar for container in containers}
    names = [policy.name for policy in policies.init_policies]
    for index, name in enumerate(names):
        if name not in sidecars:
            yield f'spec.initPolicies[{index}].name: Not found: "{name}"'
    for index, name in enumerate(names):
        if sidecars.get(name):
            yield (
                f'spec.initPolicies[{index}].name: Invalid value: "{name}": '
                f"must be an init container {_NO_SIDECAR}"
            )
