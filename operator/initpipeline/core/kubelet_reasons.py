"""Reasons that the kubelet reports in container statuses, and what they mean."""

CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
"""The container waits for its restart after a back-off."""

POD_INITIALIZING = "PodInitializing"
"""The container waits for the init containers before it, or for its own image."""

INVALID_IMAGE_NAME = "InvalidImageName"
"""The image reference is malformed."""

IMAGE_NEVER_PULLED = "ErrImageNeverPull"
"""The image is not on the node, and imagePullPolicy is Never."""

CANNOT_START = "RunContainerError"
"""The container waits after a failed start, mostly because its image does not have the command."""

START_ERROR = "StartError"
"""The container terminated because it could not be started."""

RESTARTING_ALL_CONTAINERS = "RestartingAllContainers"
"""The container waits or terminated because a RestartAllContainers rule restarts all (KEP-5532)."""

PLAIN_ENDS = frozenset({"Error", "Completed"})
"""The container terminated by itself. These reasons repeat what its exit code shows."""

LOST_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})
"""The container was lost with its sandbox or node. The kubelet knows only that the container is
gone: the exit code (137, 255) is not the container's."""
