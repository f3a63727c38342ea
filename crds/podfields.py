"""Finds the fields of a Pod whose zero value counts, from the Go types of the Kubernetes API.

An OpenAPI document does not publish this: that `hostNetwork: false` is the same as no hostNetwork,
but `automountServiceAccountToken: false` is not the same as none, since that field is a pointer.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = "PodSpec"
SCALARS: Final = {"Time", "UID", "IntOrString", "FieldsV1"}
"""Types of other packages that have no fields to look into."""
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
    """In JSON; empty if its fields are those of the struct that it is in."""
    go_type: str
    default: object = None
    """The value of its marker +default, None without one."""

    @property
    def type(self) -> str:
        """The type itself: no list, no pointer, no package."""
        return self.go_type.lstrip("*[]").rpartition(".")[2]


@dataclass(frozen=True)
class Sources:
    """The Go types that a Pod is made of."""

    structs: dict[str, tuple[Field, ...]]
    quantity_maps: frozenset[str]

    @classmethod
    def read(cls, api: Path, machinery: Path) -> "Sources":
        """From the folders of the modules k8s.io/api and k8s.io/apimachinery."""
        core = (api / "core/v1/types.go").read_text()
        meta = (machinery / "pkg/apis/meta/v1/types.go").read_text()
        constants = {name: json.loads(text) for name, text in _CONSTANT.findall(core)}
        structs = {
            name: tuple(_fields(body, constants))
            for text in (meta, core)  # core/v1 wins where both have a name
            for name, body in _STRUCT.findall(text)
        }
        return cls(structs, frozenset(_QUANTITIES.findall(core)))

    def fields(self, struct: str) -> Iterator[Field]:
        """The fields that a struct has in JSON."""
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
        found = _FIELD.match(line)
        if found:
            go_type, name, _ = found.groups()
            yield Field(name, go_type, default)
            default = None


def kinds(sources: Sources) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, object]]]:
    """Of each type of a Pod's spec: the kinds of its fields, and its fields' defaults.

    A kind is a type of fields for an object; `*` before it for a pointer, `[]` for a list of them.
    `Quantity` is a quantity, `{}Quantity` a map of them, `[]int` a list of numbers; `*` alone is a
    pointer to a plain value.
    Fields that are none of these, plain values, lists and maps of those, are left out.
    """
    found: dict[str, dict[str, str]] = {}
    defaults: dict[str, dict[str, object]] = {}
    todo = [ROOT]
    while todo:
        struct = todo.pop()
        if struct in found:
            continue
        found[struct] = {}
        for field in sources.fields(struct):
            kind = _kind(field, sources)
            if kind:
                found[struct][field.name] = kind
            if field.default not in (None, "", 0, False) or (
                field.default is not None and kind == "*"
            ):
                defaults.setdefault(struct, {})[field.name] = field.default
            if field.type in sources.structs and field.type not in SCALARS:
                todo.append(field.type)
    plain = {struct for struct, fields in found.items() if not fields}
    return (
        {struct: found[struct] for struct in sorted(found) if struct not in plain},
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
    """The text of the Python module."""
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
