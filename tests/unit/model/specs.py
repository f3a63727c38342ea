"""Specs for the oracle: values for every field of spec, and for every field of the Pod template.

Templates are made of containers whose names determine what they do, see ``Play``.
"""

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from pydantic import BaseModel

from crds.generate import CRD_FILE
from initpipeline.api.models import InitPipelineSpec
from initpipeline.api.raw import Raw

Spec = Raw


def container(name: str, image: str = "busybox", **more: Any) -> Raw:
    return {"name": name, "image": image, **more}


ONE, TWO, APP = container("one"), container("two"), container("app")
BAD, SLOW, FLAKY = container("bad"), container("slow"), container("flaky")
SIDECAR = container("log", restartPolicy="Always")

TEMPLATES: Final[Mapping[str, Raw]] = {
    "good": {"initContainers": [ONE, TWO], "containers": [APP]},
    "other image": {"initContainers": [ONE, TWO], "containers": [container("app", "nginx")]},
    "sidecar": {"initContainers": [SIDECAR, ONE], "containers": [APP, container("web")]},
    "step fails": {"initContainers": [ONE, BAD], "containers": [APP]},
    "step fails for good": {
        "initContainers": [BAD, TWO],
        "containers": [APP],
        "restartPolicy": "Never",
    },
    "step hangs": {"initContainers": [ONE, SLOW], "containers": [APP]},
    "step fails twice": {"initContainers": [FLAKY, TWO], "containers": [APP]},
    "app completes": {
        "initContainers": [ONE],
        "containers": [container("job")],
        "restartPolicy": "OnFailure",
    },
    "gated": {
        "initContainers": [ONE, TWO],
        "containers": [APP],
        "schedulingGates": [{"name": "queue"}],
    },
}

POLICIES: Final[Mapping[str, Sequence[Any]]] = {
    "rerunPolicy": ["OnRestart", "OnPodLoss", "Never"],
    "rerunStrategy": ["Recreate", "InPlace"],
    "backoffLimit": [0, 1, 2],
    "initDeadlineSeconds": [None, 5, 60],
    "initPolicies": [
        [],
        [{"name": "slow", "timeoutSeconds": 10}],
        [{"name": "slow", "timeoutSeconds": 60}, {"name": "bad", "maxRestarts": 0}],
        [{"name": "bad", "maxRestarts": 2}],
        [{"name": "flaky", "maxRestarts": 1}],
        [{"name": "flaky", "maxRestarts": 3, "timeoutSeconds": 10}],
    ],
    "suspend": [False, True],
    "runHistoryLimit": [0, 1, 10],
    "logTails": ["Record", "Omit"],
    "ttlSecondsAfterFinished": [None, 0, 100],
}
"""Values of each field other than template. None: the field is absent."""


def spec(template: str, **policies: Any) -> Spec:
    return {"template": {"spec": copy.deepcopy(TEMPLATES[template])}, **policies}


def with_entries_of_steps(made: Spec) -> Spec:
    """Returns the spec with the entries of initPolicies that name a step of its template. The
    admission policy refuses others."""
    steps = {step["name"] for step in made["template"]["spec"]["initContainers"]}
    entries = [entry for entry in made.get("initPolicies") or () if entry["name"] in steps]
    return {**made, "initPolicies": entries}


def one_field_pairs() -> Iterator[tuple[str, Spec, Spec]]:
    """Yields each change of one field, from each value to each other, on each template. The first
    item names it."""
    for template in TEMPLATES:
        for field, values in POLICIES.items():
            for old in values:
                for new in values:
                    a, b = (spec(template, **{field: value}) for value in (old, new))
                    a, b = with_entries_of_steps(a), with_entries_of_steps(b)
                    if a != b:
                        yield f"{template}: {field} from {old} to {new}", a, b
    for old in TEMPLATES:
        for new in TEMPLATES:
            if old != new:
                yield f"template from {old} to {new}", spec(old), spec(new)


def sequence(seed: int) -> tuple[Spec, ...]:
    """Returns two to five specs, each with one to three fields that differ from the one before.
    Every other sequence returns to the first spec."""
    chance = random.Random(seed)
    specs = [_random_spec(chance)]
    for _ in range(chance.randint(1, 4)):
        specs.append(_changed(specs[-1], chance))
    return (*specs, specs[0]) if seed % 2 else tuple(specs)


def _random_spec(chance: random.Random) -> Spec:
    made = spec(chance.choice([*TEMPLATES]))
    chosen = {field: chance.choice(values) for field, values in POLICIES.items()}
    kept = {field: value for field, value in chosen.items() if chance.random() < 0.4}
    return with_entries_of_steps({**made, **kept})


def _changed(made: Spec, chance: random.Random) -> Spec:
    changed = copy.deepcopy(made)
    for _ in range(chance.randint(1, 3)):
        field = chance.choice(["template", *POLICIES])
        if field == "template":
            changed |= spec(chance.choice([*TEMPLATES]))
        else:
            changed[field] = copy.deepcopy(chance.choice(POLICIES[field]))
    return with_entries_of_steps(changed)


def fields_of(model: type[BaseModel] = InitPipelineSpec, path: str = "") -> Iterator[str]:
    """Yields the paths of all fields of the spec, except for those below the template."""
    for name, field in model.model_fields.items():
        here = f"{path}{field.alias or name}"
        yield here
        for item in getattr(field.annotation, "__args__", ()):
            if isinstance(item, type) and issubclass(item, BaseModel):
                yield from fields_of(item, f"{here}.")


def values_of(path: str) -> set[str]:
    """Returns the values that the pairs have for the field at this path, as text."""
    first, _, rest = path.partition(".")
    if first == "template":
        return {*TEMPLATES}
    if not rest:
        return {str(value) for value in POLICIES[first]}
    return {str(entry.get(rest)) for value in POLICIES[first] for entry in value}


_CRD: Final = yaml.safe_load(CRD_FILE.read_text())["spec"]["versions"][0]["schema"]
_TEMPLATE: Final = _CRD["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"]
_ITEMS: Final = {"initContainers": "one", "containers": "app"}
"""The names of the containers of the template "good" in which fields are set."""


def template_fields() -> Iterator[str]:
    """Yields the paths of the fields of the Pod template that have no fields below, by the schema
    in the CRD. [] is an item of a list, {} a value of a map."""
    yield from _leaves(_TEMPLATE, "")


def _leaves(schema: Raw, path: str) -> Iterator[str]:
    if "properties" in schema:
        for name, child in schema["properties"].items():
            yield from _leaves(child, f"{path}.{name}" if path else name)
    elif "items" in schema:
        yield from _leaves(schema["items"], f"{path}.[]")
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from _leaves(schema["additionalProperties"], f"{path}.{{}}")
    else:
        yield path


def with_template_field(path: str) -> Spec:
    """Returns the spec of the template "good" with a value in the field at this path."""
    made = spec("good")
    made["template"] = _with(made["template"], _TEMPLATE, path.split("."))
    return made


def _with(value: Any, schema: Raw, path: Sequence[str]) -> Any:
    if not path:
        return _value(schema)
    name, *rest = path
    if name == "[]":
        items = list(value or [_required(schema["items"])])
        return [_with(items[0], schema["items"], rest), *items[1:]]
    if name == "{}":
        return {**(value or {}), "key": _with(None, schema["additionalProperties"], rest)}
    fields = value or _required(schema)
    return {**fields, name: _with(fields.get(name), schema["properties"][name], rest)}


def _required(schema: Raw) -> Any:
    """Returns the smallest value of the schema. An object has a name if it can have one."""
    if "properties" not in schema:
        return _value(schema)
    names = {*schema.get("required", ()), *({"name"} & schema["properties"].keys())}
    return {name: _required(schema["properties"][name]) for name in sorted(names)}


def _value(schema: Raw) -> Any:
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("x-kubernetes-int-or-string"):
        return "7"
    if schema.get("format") == "date-time":
        return "2030-01-01T00:00:00Z"
    plain = {"integer": 7, "number": 7, "boolean": True, "array": [], "object": {}}
    return plain.get(schema.get("type", ""), "x")
