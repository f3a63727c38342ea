"""The prose check finds the patterns of the rule, and nothing in code, names or quotations."""

import pytest

from tests.prose import of_python, of_text, sentences

FOUND = [
    ("None where the Pod is gone.", "'where'"),
    ("The kubelet tells it at once.", "'tells'"),
    ("What the API said.", "'said'"),
    ("The last words of a step.", "'words'"),
    ("Nobody reads it.", "'Nobody'"),
    ("The run starts anew.", "'anew'"),
    ("A pipeline, the Pod of which is gone.", "'of which'"),
    ("It is none of ours.", "'is none of'"),
    ("The operator looks at the pipeline.", "'looks at'"),
    ("A Pod that is no Pod.", "'that is no'"),
    ("A Pod, whose node is gone, which is lost.", "two relative clauses"),
]

CLEAN = [
    "If the Pod is gone, the operator creates another.",
    "See `where` and ``tell()``.",
    "The essay on wordless foretelling.",
]


@pytest.mark.parametrize(("text", "problem"), FOUND)
def test_text_that_breaks_the_rule_is_found(text: str, problem: str) -> None:
    assert [problem in str(finding) for finding in of_text("x.md", text)] == [True]


@pytest.mark.parametrize("text", CLEAN)
def test_text_within_the_rule_has_no_finding(text: str) -> None:
    assert not list(of_text("x.md", text))


def test_docstring_without_verb_is_found_and_property_is_not() -> None:
    source = '''
def f():
    """Whether the Pod is gone."""

@property
def g():
    """The name of the Pod."""
'''
    findings = list(of_python("x.py", source))
    assert [(finding.line, finding.sentence) for finding in findings] == [
        (2, "Whether the Pod is gone.")
    ]


def test_comments_names_of_tests_and_strings_are_read() -> None:
    source = """
# The API told it.
def test_nobody_asks(): ...
MESSAGE = "the API server says no"
API_SERVER = "the webhook says no"  # quoted
"""
    assert [finding.line for finding in of_python("x.py", source)] == [2, 3, 4]


def test_sentences_carry_the_line_they_start_in() -> None:
    text = "First one. Second\none.\n\n- Third"
    assert list(sentences(text, 7)) == [(7, "First one."), (7, "Second one."), (10, "- Third")]
