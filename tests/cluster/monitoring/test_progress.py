"""At a terminal of 80 columns, lines above the bars break at spaces, and addresses and paths are whole."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from cluster.monitoring.progress import Progress
from cluster.monitoring.tracking import recorded
from mlflow_utils.pages import campaign_url
from mlflow_utils.tracking_uri import default_tracking_uri
from tests.support.card_campaigns import make_ended


@contextmanager
def terminal(columns: int, written: list[bytes]) -> Iterator[TextIO]:
    """Open a terminal of so many columns; what a program wrote there is in `written` afterwards."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def read() -> None:
        with suppress(OSError):  # raised when the last writer has closed it
            while part := os.read(outside, 4096):
                written.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(inside, "w") as out:
        yield out
    reader.join()
    os.close(outside)


def test_addresses_and_paths_are_whole_above_the_bars(storage: Path) -> None:
    campaign, uri = make_ended(storage, seeds=(0,), hostile=False), default_tracking_uri(storage)
    with recorded(campaign, uri, lambda: 60):
        pass
    address = campaign_url(campaign.folder, uri)
    assert address is not None
    assert len(address) > 80
    written: list[bytes] = []
    with terminal(80, written) as out, Progress(campaign, out) as progress:
        progress._print("full (seed 0): FAILED: " + "a cause that is longer than a line of the terminal " * 3)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(written).decode()).replace("\r", "").splitlines()
    assert address in lines
    assert any(line.endswith(str(campaign.folder / "card.html")) for line in lines)
    (cause,) = [i for i, line in enumerate(lines) if "FAILED" in line]
    assert lines[cause + 1].startswith(" " * 9 + "terminal"), "under the text, not under the time"
