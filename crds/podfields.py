"""Finds the fields of a Pod whose zero value is significant, in the Go types of the Kubernetes API.

`hostNetwork: false` is equal to an absent hostNetwork. `automountServiceAccountToken: false` is not
equal to an absent one, because that field is a pointer. The OpenAPI document does not contain this
difference.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = "PodSpec"
SCALARS: Final = {"Time", "UID", "IntOrString", "FieldsV1"}
"""Types of other packages whose fields are not part of a Pod."""
QUANTITY: Final = "Quantity"

_STRUCT: Final = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_QUANTITIES: Final = re.compile(r"^type (\w+) map\[\w+\]resource\.Quantity$", re.MULTILINE)
_CONSTANT: Final = re.compile(r'^\s*(\w+)\s+\w+\s*= (".*")$', re.MULTILINE)
_FIELD: Final = re.compile(r'^\t(?:\w+ +)?([\w.*\[\]]+) +`json:"(\w*)(?:,(\w+))?')
_DEFAULT: Final = re.compile(r"^\t// \+default=(?:ref\((\w+)\)|(.*))$")


@dataclass(frozen=True)
class Field:
    """A field of a Go struct."""

    name: str
    """Its name in JSON. Empty for an embedded struct."""
    go_type: str
    default: object = None
    """The value of its marker +default. None: it has no such marker."""

    @property
    def type(self) -> str:
        """The name of the type, without list, pointer and package."""
        return self.go_type.lstrip("*[]").rpartition(".")[2]


@dataclass(frozen=True)
class Sources:
    """The Go types of a Pod."""

    structs: dict[str, tuple[Field, ...]]
    quantity_maps: frozenset[str]

    @classmethod
    def read(cls, api: Path, machinery: Path) -> "Sources":
        """Reads the types in the directories of the modules k8s.io/api and k8s.io/apimachinery."""
        core = (api / "core/v1/types.go").read_text()
        meta = (machinery / "pkg/apis/meta/v1/types.go").read_text()
        constants = {name: json.loads(text) for name, text in _CONSTANT.findall(core)}
        structs = {
            name: tuple(_fields(body, constants))
            for text in (
                meta,
                core,
            )  # If both have a type of the same name, that of core/v1 is used.
            for name, body in _STRUCT.findall(text)
        }
        return cls(structs, frozenset(_QUANTITIES.findall(core)))

    def fields(self, struct: str) -> Iterator[Field]:
        """Yields the fields of a struct in JSON, those of embedded structs included."""
        for field in self.structs[struct]:
            if field.name:
                yield field
            else:
                yield from self.fields(field.type)


def _fields(body: str, constants: dict[str, object]) -> Iterator[Field]:
    default: object = None
    for line in body.splitlines():
        marker = _DEFAULT.match(line)
        if marker:
            constant, value = marker.groups()
            default = constants[constant] if constant else json.loads(value)
        field = _FIELD.match(line)
        if field:
            go_type, name, _ = field.groups()
            yield Field(name, go_type, default)
            default = None


def kinds(sources: Sources) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, object]]]:
    """Returns the kinds of the fields and the defaults of the fields, by type of a Pod's spec.

    The kind of an object is the name of its type, with the prefix `*` for a pointer and `[]` for a
    list. Other kinds are `Quantity`, `{}Quantity` for a map of quantities, `[]int` for a list of
    numbers, and `*` for a pointer to a plain value. Other fields are left out: plain values, and
    lists and maps of them.
    """
    kinds_by_type: dict[str, dict[str, str]] = {}
    defaults: dict[str, dict[str, object]] = {}
    todo = [ROOT]
    while todo:
        struct = todo.pop()
        if struct in kinds_by_type:
            continue
        kinds_by_type[struct] = {}
        for field in sources.fields(struct):
            kind = _kind(field, sources)
            if kind:
                kinds_by_type[struct][field.name] = kind
            if field.default not in (None, "", 0, False) or (
                field.default is not None and kind == "*"
            ):
                defaults.setdefault(struct, {})[field.name] = field.default
            if field.type in sources.structs and field.type not in SCALARS:
                todo.append(field.type)
    plain = {struct for struct, fields in kinds_by_type.items() if not fields}
    return (
        {struct: kinds_by_type[struct] for struct in sorted(kinds_by_type) if struct not in plain},
        {struct: defaults[struct] for struct in sorted(defaults)},
    )


def _kind(field: Field, sources: Sources) -> str:
    if field.type in sources.quantity_maps:
        return "{}" + QUANTITY
    if field.go_type in {"[]int32", "[]int64"}:
        return "[]int"
    pointer = "*" if field.go_type.startswith("*") else ""
    many = "[]" if field.go_type.startswith("[]") else ""
    if field.type == QUANTITY:
        return pointer + QUANTITY
    if field.type in sources.structs and field.type not in SCALARS:
        return (many or pointer) + field.type
    return pointer


def rendered(sources: Sources, header: str) -> str:
    """Returns the text of the Python module."""
    fields, defaults = kinds(sources)
    lines = [
        f'"""{header}"""',
        "",
        "from typing import Any, Final",
        "",
        "# fmt: off",
        "KINDS: Final[dict[str, dict[str, str]]] = {",
        *(line for name, row in fields.items() for line in _row(name, row)),
        "}",
        "",
        "DEFAULTS: Final[dict[str, dict[str, Any]]] = {",
        *(line for name, row in defaults.items() for line in _row(name, row)),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, row: dict[str, str] | dict[str, object]) -> Iterator[str]:
    yield f'    "{name}": {{'
    for key, value in row.items():
        shown = json.dumps(value) if isinstance(value, str) else repr(value)
        yield f'        "{key}": {shown},'
    yield "    },"
