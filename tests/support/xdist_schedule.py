"""How `pytest -n` shares out the tests: file by file, and all integration tests one after the other on one worker.

Integration tests start Ray clusters and servers. Two at once would compete for the cores that their timeouts assume,
and on one worker they share one Ray head. They take longest, so they go first.
"""

from typing import Any

from xdist.scheduler import LoadFileScheduling

INTEGRATION = "tests/integration"


class OneClusterAtATime(LoadFileScheduling):
    """Schedule each file as one unit, and the folder of integration tests as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return INTEGRATION if file.startswith(f"{INTEGRATION}/") else file

    def _assign_work_unit(self, node: Any) -> None:
        if INTEGRATION in self.workqueue:
            self.workqueue.move_to_end(INTEGRATION, last=False)
        super()._assign_work_unit(node)
