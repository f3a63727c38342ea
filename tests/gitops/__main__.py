"""``python -m tests.gitops prepare | generate | record [LIFE ...]``"""

import argparse

from tests.cluster.build import built
from tests.cluster.progress import Lines
from tests.gitops.customizations import FRAGMENT, fragment
from tests.gitops.lives import LIVES
from tests.gitops.programs import ENGINE
from tests.gitops.record import record

parser = argparse.ArgumentParser(
    prog="python -m tests.gitops",
    description="prepare: build the engine of the tests. generate: write the fragment of "
    "argocd-cm. record: play lives of pipelines and write down what was told of them.",
)
parser.add_argument("what", choices=["prepare", "generate", "record"])
parser.add_argument("life", nargs="*", help=f"of these, all without: {', '.join(LIVES)}")
arguments = parser.parse_args()
if arguments.what == "prepare":
    built(ENGINE, Lines())
elif arguments.what == "generate":
    FRAGMENT.write_text(fragment())
else:
    record(arguments.life)
