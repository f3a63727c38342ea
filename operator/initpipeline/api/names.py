"""The names that this project defines in a cluster: kind, labels and annotations."""

from typing import Final

GROUP: Final = "initpipeline.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "InitPipeline"
PLURAL: Final = "initpipelines"
SINGULAR: Final = "initpipeline"
SHORT_NAME: Final = "ipl"

NAME_LABEL: Final = f"{GROUP}/name"
"""On the Pod: the name of its InitPipeline. The operator selects Pods by this label. It watches a
Pod without this label only if the Pod has the name of an InitPipeline."""

BUCKET_LABEL: Final = f"{GROUP}/bucket"
"""On an InitPipeline and its Pod: a hexadecimal digit, which decides the shard. The API server sets
it on the InitPipeline if manifests/sharding is installed, and the operator copies it to the Pod."""

RUN_ANNOTATION: Final = f"{GROUP}/run"
"""On the Pod: the number of the run that the operator created it for. It stays the same if the
kubelet starts later runs in the Pod."""

TEMPLATE_HASH_ANNOTATION: Final = f"{GROUP}/template-hash"
"""On the Pod: the hash of the template that it was created from."""

RERUN_TOKEN_ANNOTATION: Final = f"{GROUP}/rerun-token"
"""On the Pod: the last rerun token for which a run had started when the Pod was created. Empty: no
run had been requested."""

RERUN_IN_PLACE_ANNOTATION: Final = f"{GROUP}/rerun-in-place"
"""On the Pod, if rerunStrategy is InPlace: true if the operator added rules that restart all
containers in place, otherwise the reason why it did not. The API server or a webhook may have
removed the rules."""

IN_PLACE: Final = "true"
"""The value of RERUN_IN_PLACE_ANNOTATION on a Pod that was created with the operator's rules."""

TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
"""On the Pod: its template, compressed. The operator compares a changed template with it. Absent if
it has more than 12 KiB compressed (16 KiB in base64), or if the annotations of the Pod would be too
large."""

RUN_GATE: Final = f"{GROUP}/run"
"""The scheduling gate that the operator sets on its Pods with --scheduling-gate. The operator
removes it when status records the Pod."""

POD_LABELS: Final = frozenset({NAME_LABEL, BUCKET_LABEL})
"""Labels that the operator sets on the Pod. It ignores them in the template."""

POD_ANNOTATIONS: Final = frozenset(
    {
        RUN_ANNOTATION,
        TEMPLATE_HASH_ANNOTATION,
        TEMPLATE_ANNOTATION,
        RERUN_IN_PLACE_ANNOTATION,
        RERUN_TOKEN_ANNOTATION,
    }
)
"""Annotations that the operator sets on the Pod. It ignores them in the template."""

MEMBERS_ANNOTATION: Final = f"{GROUP}/members"
"""On the Lease of --lease-name, with --shards: each replica with the time of its last heartbeat."""

RERUN_ANNOTATION: Final = f"{GROUP}/rerun"
"""On the InitPipeline, set by a user: any string. It requests a run if it is not in
status.lastRerunToken, status.run.token or status.history[].token."""

MAX_NAME_LENGTH: Final = 63
"""Characters of an InitPipeline's name. It is also the Pod's name, the Pod's hostname and the value
of a label. A hostname (one DNS label, RFC 1123) and the value of a label have at most this many."""

MAX_MESSAGE_LENGTH: Final = 1024
"""Bytes of a message in status. Each watcher gets a copy of the status, so it stays small."""

MAX_IDENTIFIER_LENGTH: Final = 253
"""Characters of a name, token, reason or ID in status: the limit of an object's name."""
