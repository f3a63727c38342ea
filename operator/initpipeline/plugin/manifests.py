"""Files of manifests, read as kubectl reads them and written so that kubectl reads the same.

kubectl's YAML is not quite PyYAML's: to kubectl ``22:22`` and ``2026-01-01`` are texts, ``y`` is
true and ``1e3`` a number. A manifest that goes through here must not change its meaning.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import yaml

Manifest = Mapping[str, Any]

_SEPARATOR: Final = re.compile(r"^---[ \t]*(?:#.*)?$", re.MULTILINE)
"""What kubectl splits a file at."""

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
"""Plain scalars that are no texts: tag, first characters, whole scalar. As in go-yaml 2."""

_RARE_BREAKS: Final = frozenset("\r\x85\u2028\u2029")

_BOOLEANS: Final = {
    **dict.fromkeys(("y", "yes", "on", "true"), True),
    **dict.fromkeys(("n", "no", "off", "false"), False),
}


class ManifestError(ValueError):
    """A file that holds no manifests. The message is for a person."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file."""

    manifest: Manifest
    text: str | None = None
    """Its own words, comments and all, where they can be told from the rest of the file's."""

    def rendered(self) -> str:
        """As it was written, or else as YAML."""
        return to_yaml(self.manifest) if self.text is None else self.text


def read(text: str) -> tuple[Document, ...]:
    """The objects of a file, YAML or JSON, lists taken apart, in order.

    Raises ManifestError where it is neither, or something in it is no object of Kubernetes'.
    """
    documents: list[Document] = []
    for position, document in enumerate(_documents(text), start=1):
        manifest = document.manifest
        if not _is_object(manifest):
            raise ManifestError(f"document {position} is no Kubernetes object: it has no kind")
        if isinstance(manifest.get("items"), list) and manifest["kind"].endswith("List"):
            documents += (Document(item) for item in _items(manifest, position))
        else:
            documents.append(document)
    return tuple(documents)


def to_yaml(manifest: Manifest) -> str:
    """One object, its keys in order, without the mark of a document's beginning."""
    text: str = yaml.dump(
        manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**16
    )
    return text


def _documents(text: str) -> Iterator[Document]:
    if (manifests := _json_documents(text)) is not None:
        yield from (Document(manifest) for manifest in manifests)
        return
    for chunk in _SEPARATOR.split(text):
        found = [manifest for manifest in _yaml_documents(chunk) if manifest is not None]
        own_words = chunk.strip("\n") + "\n" if len(found) == 1 else None
        yield from (Document(manifest, own_words) for manifest in found)


def _json_documents(text: str) -> list[Any] | None:
    """kubectl takes several JSON objects one after another. None: this is no JSON; what looks like
    it may be YAML."""
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
    """The items of a list; those of a typed one need not say what they are."""
    known = {key: list_[key] for key in ("apiVersion", "kind") if key in list_}
    known["kind"] = known["kind"].removesuffix("List")
    for item in list_["items"]:
        whole = {**known, **item} if known["kind"] and isinstance(item, Mapping) else item
        if not _is_object(whole):
            raise ManifestError(f"document {position} lists something that has no kind")
        yield whole


def _is_object(manifest: Any) -> TypeGuard[Manifest]:
    return isinstance(manifest, Mapping) and isinstance(manifest.get("kind"), str)


class _Loader(yaml.SafeLoader):
    """Reads plain scalars as kubectl does."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own way)


class _Dumper(yaml.SafeDumper):
    """Quotes what kubectl, or another reader of YAML 1.1, would not take for a text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Anchors are for those who write by hand."""
        return True


def _boolean(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return _BOOLEANS[str(loader.construct_scalar(node)).lower()]


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Scripts as they are read, line by line; and what only YAML takes for the end of a line as an
    escape, or it would come back as another."""
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
