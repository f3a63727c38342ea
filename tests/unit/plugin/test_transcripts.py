"""The example outputs in docs/plugin.md are what the plugin prints for the recorded objects."""

from typing import Final

import pytest

from tests.transcripts import document
from tests.transcripts.transcript import Transcript, load

TRANSCRIPTS: Final = load()
PAGE: Final = document.PAGE.read_text()


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=[one.command for one in TRANSCRIPTS])
def test_documented_output_is_that_of_the_plugin(transcript: Transcript) -> None:
    shown = document.shown(PAGE, transcript.command)
    assert shown == transcript.output(), "run: python -m tests.transcripts render"


def test_every_documented_command_is_recorded() -> None:
    assert sorted(document.commands(PAGE)) == sorted(one.command for one in TRANSCRIPTS)


def test_output_of_a_changed_page_differs() -> None:
    """The comparison covers the whole output of each command."""
    for transcript in TRANSCRIPTS:
        *_, last = transcript.output().splitlines()
        changed = PAGE.replace(last, "something else")
        assert document.shown(changed, transcript.command) != transcript.output()
