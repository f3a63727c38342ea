"""The names this project puts into a cluster, each in one place."""

from typing import Final

GROUP: Final = "initpipeline.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "InitPipeline"
PLURAL: Final = "initpipelines"
SINGULAR: Final = "initpipeline"
SHORT_NAME: Final = "ipl"

NAME_LABEL: Final = f"{GROUP}/name"
"""On the child Pod: the name of its InitPipeline. The operator watches only Pods that carry it."""

RUN_ANNOTATION: Final = f"{GROUP}/run"
"""On the child Pod: the number of the run that created it. Later runs of the kubelet in the same
Pod do not change it, so it answers one question only: was this Pod made for that run?"""

TEMPLATE_HASH_ANNOTATION: Final = f"{GROUP}/template-hash"
"""On the child Pod: the hash of the template it was made of."""

RERUN_IN_PLACE_ANNOTATION: Final = f"{GROUP}/rerun-in-place"
"""On the child Pod, where rerunStrategy InPlace asks for it: IN_PLACE if it has our rules, or the
reason why it goes without."""

IN_PLACE: Final = "true"
"""The value of RERUN_IN_PLACE_ANNOTATION on a Pod that has our rules."""

TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
"""On the child Pod: its template, compressed, unless that is too large. The operator compares a
changed template with it."""

POD_LABELS: Final = frozenset({NAME_LABEL})
POD_ANNOTATIONS: Final = frozenset(
    {RUN_ANNOTATION, TEMPLATE_HASH_ANNOTATION, TEMPLATE_ANNOTATION, RERUN_IN_PLACE_ANNOTATION}
)
"""Annotations that the operator sets on the child Pod. It ignores those of the template."""

RERUN_ANNOTATION: Final = f"{GROUP}/rerun"
"""On the InitPipeline: a token; one that was never answered before asks for a new run."""

MAX_NAME_LENGTH: Final = 63
"""The Pod takes the pipeline's name, the Pod's hostname is its name, and a hostname is one DNS
label (RFC 1123)."""

MAX_MESSAGE_LENGTH: Final = 1024
"""Bytes of a condition's or history entry's message: status is read by people and copied to each
watcher."""

MAX_IDENTIFIER_LENGTH: Final = 253
"""The limit, in characters, of a name, a token, a reason or an ID in status: that of an object's
name."""
