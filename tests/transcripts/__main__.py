"""``python -m tests.transcripts record | render``"""

import argparse

from tests.transcripts import document
from tests.transcripts.record import record
from tests.transcripts.transcript import load, save

parser = argparse.ArgumentParser(
    prog="python -m tests.transcripts",
    description="record: run the examples of docs/plugin.md on a cluster, and render them. "
    "render: write their outputs into docs/plugin.md, from the responses that were recorded.",
)
parser.add_argument("what", choices=["record", "render"])
if parser.parse_args().what == "record":
    save(record())
document.write(load())
