"""What a process has used, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Of one process, by its pid."""

    pid: int

    def cpu_ms(self) -> float:
        """Milliseconds of CPU since it started, user and system, of all its threads."""
        # The name, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1000 / TICKS_PER_SECOND

    def resident_mib(self) -> float:
        """MiB of memory that it holds now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0
