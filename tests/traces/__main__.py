"""``python -m tests.traces record [SCENARIO ...]``"""

import argparse

from tests.traces.record import record
from tests.traces.scenarios import SCENARIOS

parser = argparse.ArgumentParser(prog="python -m tests.traces", description=__doc__)
parser.add_argument("what", choices=["record"])
parser.add_argument("scenario", nargs="*", help=f"of these, all without: {', '.join(SCENARIOS)}")
arguments = parser.parse_args()
record(arguments.scenario)
