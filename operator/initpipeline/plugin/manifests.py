"""Reads and writes files of manifests with the YAML rules of kubectl.

kubectl and PyYAML differ: for kubectl, ``22:22`` and ``2026-01-01`` are strings, ``y`` is true and
``1e3`` is a number. Reading and writing a manifest must not change its values.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import yaml

Manifest = Mapping[str, Any]

_SEPARATOR: Final = re.compile(r"^---[ \t]*(?:#.*)?$", re.MULTILINE)
"""The separator of documents, as in kubectl."""

_RESOLVERS: Final = (
    ("bool", "yYnNtTfFoO", r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF"),
    ("bool", "tTfF", r"true|True|TRUE|false|False|FALSE"),
    ("null", "~nN\0", r"~|null|Null|NULL|"),
    ("int", "-+0123456789", r"[-+]?(?:0|[1-9][0-9_]*|0o?[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)"),
    (
        "float",
        "-+.0123456789",
        r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN)",
    ),
    ("merge", "<", r"<<"),
)
"""Plain scalars that are not strings, as in go-yaml 2: tag, first characters, whole scalar."""

_RARE_BREAKS: Final = frozenset("\r\x85\u2028\u2029")
"""Characters that YAML reads as line breaks and that must be escaped."""

_BOOLEANS: Final = {
    **dict.fromkeys(("y", "yes", "on", "true"), True),
    **dict.fromkeys(("n", "no", "off", "false"), False),
}


class ManifestError(ValueError):
    """A file does not consist of manifests. The message is for the user."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file."""

    manifest: Manifest
    text: str | None = None
    """The object as written in the file, with comments. None: it was part of a list or of JSON."""

    def rendered(self) -> str:
        """Returns the object as it was written, or else as YAML."""
        return to_yaml(self.manifest) if self.text is None else self.text


def read(text: str) -> tuple[Document, ...]:
    """Returns the objects of a YAML or JSON file in order, and the items of lists separately.

    Raises ManifestError if the text is neither, or contains something else than Kubernetes objects.
    """
    documents: list[Document] = []
    for position, document in enumerate(_documents(text), start=1):
        manifest = document.manifest
        if not _is_object(manifest):
            raise ManifestError(f"document {position} is not a Kubernetes object: it has no kind")
        if isinstance(manifest.get("items"), list) and manifest["kind"].endswith("List"):
            documents += (Document(item) for item in _items(manifest, position))
        else:
            documents.append(document)
    return tuple(documents)


def to_yaml(manifest: Manifest) -> str:
    """Returns the object as YAML, with its keys in order and without a document separator."""
    text: str = yaml.dump(
        manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**16
    )
    return text


def _documents(text: str) -> Iterator[Document]:
    if (manifests := _json_documents(text)) is not None:
        yield from (Document(manifest) for manifest in manifests)
        return
    for chunk in _SEPARATOR.split(text):
        manifests = [manifest for manifest in _yaml_documents(chunk) if manifest is not None]
        source = chunk.strip("\n") + "\n" if len(manifests) == 1 else None
        yield from (Document(manifest, source) for manifest in manifests)


def _json_documents(text: str) -> list[Any] | None:
    """Returns the JSON objects of the text, which may follow each other, as in kubectl. None: the
    text is not JSON, but may be YAML."""
    decoder, end, manifests = json.JSONDecoder(), 0, []
    try:
        while rest := text[end:].lstrip():
            manifest, end = decoder.raw_decode(text, len(text) - len(rest))
            manifests.append(manifest)
    except json.JSONDecodeError:
        return None
    return manifests


def _yaml_documents(chunk: str) -> list[Any]:
    try:
        return list(yaml.load_all(chunk, Loader=_Loader))
    except (yaml.YAMLError, ValueError) as error:
        hint = "; render a Helm chart first: helm template ..." if "{{" in chunk else ""
        raise ManifestError(f"not YAML: {' '.join(str(error).split())}{hint}") from error


def _items(list_: Manifest, position: int) -> Iterator[Manifest]:
    """Yields the items of a list. Items of a typed list, such as a PodList, get its apiVersion and
    kind. Raises ManifestError."""
    inherited = {key: list_[key] for key in ("apiVersion", "kind") if key in list_}
    inherited["kind"] = inherited["kind"].removesuffix("List")
    for item in list_["items"]:
        is_typed = inherited["kind"] and isinstance(item, Mapping)
        manifest = {**inherited, **item} if is_typed else item
        if not _is_object(manifest):
            raise ManifestError(f"document {position} has a list item without a kind")
        yield manifest


def _is_object(manifest: Any) -> TypeGuard[Manifest]:
    return isinstance(manifest, Mapping) and isinstance(manifest.get("kind"), str)


class _Loader(yaml.SafeLoader):
    """Reads plain scalars with the rules of kubectl."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own way)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that kubectl or another YAML 1.1 parser would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Returns True: the output has no anchors."""
        return True


def _boolean(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return _BOOLEANS[str(loader.construct_scalar(node)).lower()]


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Writes a string of several lines as a block. Escapes the rare line breaks of YAML, which a
    parser would otherwise replace."""
    style = "|" if "\n" in text else None
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if _RARE_BREAKS & set(text) else style
    )


for _tag, _first, _pattern in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}",
            re.compile(rf"^(?:{_pattern})$"),
            ["" if character == "\0" else character for character in _first],
        )
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)
_Dumper.add_representer(str, _text)
