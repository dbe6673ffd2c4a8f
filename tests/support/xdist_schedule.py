"""How `pytest -n` shares out the tests: file by file, and the tests of integration and faults in rows of files.

Files that ask for the shared Ray head run one after the other on one worker, so that they share it. The other
integration tests, whose clusters and servers are their own, are a second row, and some more of the shared head's files
a third, which follows whichever ends first. They mostly wait for processes and take longest, so that they go first, but
at most two at a time: a third worker takes the other files meanwhile, first the pages and the notebook that train.
"""

from functools import cache
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

FOLDERS = ("tests/integration/", "tests/faults/")
SHARED, OWN = "integration: the shared Ray head", "integration: their own clusters"
MORE = "integration: more of the shared Ray head"
ROWS = (SHARED, OWN, MORE)
AT_ONCE = 2
LONG = ("tests/docs/test_notebook.py", "tests/docs/test_examples.py")
IN_MORE = ("test_limits.py", "test_every_variant.py", "test_readme_commands.py")


class TwoClustersAtMost(LoadFileScheduling):
    """Schedule each file as one unit, and the folders of integration tests and faults as three."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return _row(self.config.rootpath / file) if file.startswith(FOLDERS) else file

    def _assign_work_unit(self, node: Any) -> None:
        others = [units for worker, units in self.assigned_work.items() if worker is not node]
        running = sum(not all(units[row].values()) for units in others for row in ROWS if row in units)
        first = (*ROWS, *LONG) if running < AT_ONCE else LONG
        for unit in reversed(first):
            if unit in self.workqueue:
                self.workqueue.move_to_end(unit, last=False)
        if running >= AT_ONCE:
            for row in ROWS:
                if row in self.workqueue:
                    self.workqueue.move_to_end(row)
        super()._assign_work_unit(node)


@cache
def _row(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if "ray_head" not in text and "connected_ray" not in text:
        return OWN
    return MORE if file.name in IN_MORE else SHARED
