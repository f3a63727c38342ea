"""Each command of the documents is run by a test, or has a reason why none can run it."""

import pytest

from tests.documents.commands import Section, sections
from tests.documents.runs import ELSEWHERE, JOURNEY, in_journey, is_elsewhere, named


def _id(section: Section) -> str:
    return f"{section.document}#{section.heading}"


@pytest.mark.parametrize("section", [one for one in sections() if one.commands], ids=_id)
def test_commands_of_a_section_are_run(section: Section) -> None:
    if in_journey(section.document, section.heading):
        return
    missing = [one for one in section.commands if not is_elsewhere(section.document, one)]
    assert not missing, "no test runs these: add them to tests/documents/runs.py"


def test_each_entry_names_a_command() -> None:
    used = {
        named(section.document, command) for section in sections() for command in section.commands
    }
    assert set(ELSEWHERE) - used == set()


@pytest.mark.parametrize(("document", "heading"), JOURNEY)
def test_each_stage_of_the_journey_has_commands(document: str, heading: str) -> None:
    assert any(
        one.commands
        for one in sections()
        if one.document == document and heading in ("*", one.heading)
    )
