"""Reasons that the kubelet reports in container statuses."""

CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"
"""The kubelet's reason for a container that it will start again after a while."""

INVALID_IMAGE_NAME = "InvalidImageName"
"""The kubelet's reason for an image that no registry can be asked for."""

IMAGE_NEVER_PULLED = "ErrImageNeverPull"
"""The kubelet's reason for an image that its node lacks and imagePullPolicy has it not pull."""

CANNOT_START = "RunContainerError"
"""The kubelet's reason for a container that was made and could not be started, mostly for a command
that its image does not have."""

START_ERROR = "StartError"
"""The kubelet's reason for the end of a container that could not be started."""

RESTARTING_ALL_CONTAINERS = "RestartingAllContainers"
"""The kubelet's reason for containers that a RestartAllContainers rule restarts (KEP-5532)."""

LOST_ENDS = frozenset({"ContainerStatusUnknown", "Unknown"})
"""The kubelet's reasons for the end of a container that went with its sandbox or node. The kubelet
knows only that the container is gone: the exit code (137, 255) is not the container's."""
