"""Checks the language of code and documents: ``python -m tests.prose [PATH ...]``.

Every sentence names an actor and what it does. The patterns below are those that readers of this
project had to read twice. docs/development.md has the rule.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

PATTERNS: Final = {
    r"where": "a condition starts with if or when; for a place write in which",
    r"tell|tells|telling|told": "state is reported, observed, set or recorded",
    r"say|says|saying|said|speaks?|spoken?": "state is reported, observed, set or recorded",
    r"words?": "name the thing: message, status, argument, term",
    r"whoever|whatever|nobody|somebody|anybody|no one|a person|people": "name the actor",
    r"anew|for ever|afresh|whence|thence|lest|thereof|wherein|befalls?|mends?|mended": "archaic",
    r"(?-i:(?:is|are) none)(?: of)?|of which|of whom|of whose": "use a verb, or two sentences",
    r"(?:it|that|this|which) is no": "use a verb: does not, cannot",
    r"looks? at|looked at|looking at|looks? again|one look|a look": "the operator reconciles",
}
"""Regular expressions of whole words, and what to write instead."""

RULES: Final = [(re.compile(rf"\b(?:{p})\b", re.IGNORECASE), why) for p, why in PATTERNS.items()]

RELATIVE: Final = re.compile(r"\b(?:which|whose|whom|who)\b", re.IGNORECASE)
"""More than one in a sentence needs two sentences."""

NO_VERB: Final = re.compile(
    r"(?:an?|all|as|at|both|each|for|from|how|if|in|its?|no|none|of|on|one|only|our|some|such|that|"
    r"the|their|them|these|this|those|under|what|when|where|whether|which|who|whose|why|with|"
    r"without)\b",
    re.IGNORECASE,
)
"""A function's docstring that starts with one of these does not give what the call does."""

QUOTED: Final = "quoted"
"""The comment on a line whose string another program wrote, such as the API server."""

TEXT_FILES: Final = frozenset({".md"})
COMMENTED: Final = frozenset({".yaml", ".yml", ".toml", ".sh", ".lua", ""})
"""Files of which the comments are read: by their suffix."""

SKIPPED: Final = (
    "docs/dashboard-",  # pictures
    "tests/prose.py",
    "tests/unit/test_prose.py",
    "LICENSE",
    "requirements",
    "crds/init",
)
"""The patterns themselves, and what is not written here."""

FENCE: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
INLINE_CODE: Final = re.compile(r"``[^`]*``|`[^`\n]*`|<!--.*?-->|\]\([^)]*\)", re.DOTALL)
SENTENCE_END: Final = re.compile(r"(?<=[.!?:;])\s+|\n\s*\n|\n(?=\s*[-*|#])")


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence that breaks the rule."""

    path: str
    line: int
    sentence: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.problem}: {self.sentence}"


def sentences(text: str, line: int) -> Iterator[tuple[int, str]]:
    """Yields the sentences of a text that starts in this line, each with its line."""
    text = INLINE_CODE.sub(lambda code: re.sub(r"[^\n]+", "X", code.group()), text)
    start = 0
    for end in [*SENTENCE_END.finditer(text), None]:
        piece = text[start : end.start() if end else len(text)]
        blank = len(piece) - len(piece.lstrip())
        if piece.strip():
            yield line + text.count("\n", 0, start + blank), " ".join(piece.split())
        start = end.end() if end else start


def problems(sentence: str) -> Iterator[str]:
    """Yields what breaks the rule in a sentence."""
    for pattern, why in RULES:
        found = pattern.search(sentence)
        if found:
            yield f"'{found.group()}' ({why})"
    if len(RELATIVE.findall(sentence)) > 1:
        yield "two relative clauses (write two sentences)"


def of_text(path: str, text: str, line: int = 1) -> Iterator[Finding]:
    """Yields the findings in prose."""
    for at, sentence in sentences(text, line):
        for problem in problems(sentence):
            yield Finding(path, at, sentence, problem)


def of_python(path: str, source: str) -> Iterator[Finding]:
    """Yields the findings in comments, docstrings, messages and names of tests."""
    quoted = set()
    for line, comment in _comments(source):
        if comment.strip() == QUOTED:
            quoted.add(line)
        yield from of_text(path, comment, line)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                yield from of_text(path, node.name.replace("_", " "), node.lineno)
            yield from _of_docstring(path, node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            if quoted.isdisjoint(lines):
                yield from of_text(path, node.value, node.lineno)


def _of_docstring(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    doc = ast.get_docstring(node) or ""
    is_property = any("property" in ast.unparse(one) for one in node.decorator_list)
    is_test = node.name.startswith("test_")
    if NO_VERB.match(doc) and not is_property and not is_test:
        yield Finding(path, node.lineno, doc.splitlines()[0], "no verb (what does it return or do)")


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yields the comments of a Python source, adjacent lines joined, each with its first line."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield first, "\n".join(block)
            block = []
        first = first if block else token.start[0]
        last = token.start[0]
        block.append(token.string.lstrip("#"))
    if block:
        yield first, "\n".join(block)


def of_file(path: Path) -> Iterator[Finding]:
    """Yields the findings in a file, by its kind. Other kinds have none."""
    name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from of_python(name, text)
    elif path.suffix in TEXT_FILES:
        prose = FENCE.sub(lambda code: "\n" * code.group().count("\n"), text)
        yield from of_text(name, prose)
    elif path.suffix in COMMENTED:
        mark = "--" if path.suffix == ".lua" else "#"
        for line, content in enumerate(text.splitlines(), 1):
            if content.lstrip().startswith(mark) or f" {mark}" in content:
                yield from of_text(name, content.partition(mark)[2].strip(mark), line)


def files(arguments: list[str]) -> Iterator[Path]:
    """Yields the files of the repository, or those below the paths that are given."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *arguments]
    out = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in out.splitlines():
        if not name.startswith(SKIPPED) and (ROOT / name).is_file():
            yield ROOT / name


def main() -> int:
    """Prints each finding. Returns 1 if there is one."""
    arguments = [str(Path(argument).resolve()) for argument in sys.argv[1:]]
    findings = [finding for path in files(arguments) for finding in of_file(path)]
    for finding in findings:
        print(finding)
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
