"""``python -m tests.gitops prepare | generate | record [SCENARIO ...]``"""

import argparse

from tests.cluster.build import built
from tests.cluster.progress import Lines
from tests.gitops.customizations import FRAGMENT, fragment
from tests.gitops.programs import ENGINE
from tests.gitops.record import record
from tests.gitops.scenarios import SCENARIOS

parser = argparse.ArgumentParser(
    prog="python -m tests.gitops",
    description="prepare: build the engine of the tests. generate: write argocd-cm.yaml. "
    "record: run scenarios on a cluster and write the states of their pipelines.",
)
parser.add_argument("what", choices=["prepare", "generate", "record"])
parser.add_argument("scenario", nargs="*", help=f"default: all of {', '.join(SCENARIOS)}")
arguments = parser.parse_args()
if arguments.what == "prepare":
    built(ENGINE, Lines())
elif arguments.what == "generate":
    FRAGMENT.write_text(fragment())
else:
    record(arguments.scenario)
