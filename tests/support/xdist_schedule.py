"""How `pytest -n` shares out the tests: file by file, and the tests of integration and faults in two rows of files.

Files that ask for the shared Ray head run one after the other on one worker, so that they share it. The other
integration tests, whose clusters and servers are their own, are a second row: at most two clusters run at a time. They
mostly wait for processes and take longest, so both rows go first, then the pages and the notebook that train; at the
end one of them would keep a single worker busy for minutes.
"""

from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

FOLDERS = ("tests/integration/", "tests/faults/")
SHARED, OWN = "integration: the shared Ray head", "integration: their own clusters"
FIRST = (SHARED, OWN, "tests/docs/test_notebook.py", "tests/docs/test_examples.py")


class TwoClustersAtMost(LoadFileScheduling):
    """Schedule each file as one unit, and the folders of integration tests and faults as two."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return _row(self.config.rootpath / file) if file.startswith(FOLDERS) else file

    def _assign_work_unit(self, node: Any) -> None:
        for unit in reversed(FIRST):
            if unit in self.workqueue:
                self.workqueue.move_to_end(unit, last=False)
        super()._assign_work_unit(node)


@cache
def _row(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    return SHARED if "ray_head" in text or "connected_ray" in text else OWN
