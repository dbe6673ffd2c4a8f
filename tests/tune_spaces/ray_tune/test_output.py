"""Ray's messages go to a file; what Python prints still reaches the terminal."""

import subprocess
import sys
from pathlib import Path

CODE = """
import logging, os, sys
from pathlib import Path
from tune_spaces.ray_tune.output import ray_messages_in
logger = logging.getLogger("ray.tune")
logger.addHandler(logging.StreamHandler())
with ray_messages_in(Path(sys.argv[1])):
    logger.error("Trial task failed")
    logging.getLogger("ray").warning("from Ray itself")
    os.write(2, b"[core_worker.cc] native\\n")
    print("ours", file=sys.stderr)
logger.error("afterwards")
print("after", file=sys.stderr)
"""


def test_loggers_and_native_code_write_to_the_file_while_the_body_runs(tmp_path: Path) -> None:
    log = tmp_path / "campaign" / "ray.log"
    done = subprocess.run([sys.executable, "-c", CODE, str(log)], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["ours", "afterwards", "after"]
    text = log.read_text()
    assert text.count("Trial task failed") == 1
    assert all(part in text for part in ("from Ray itself", "[core_worker.cc] native"))


def test_a_stream_that_is_not_the_terminals_is_left_alone(tmp_path: Path) -> None:
    from tune_spaces.ray_tune.output import ray_messages_in

    before = sys.stderr
    with ray_messages_in(tmp_path / "ray.log"):
        assert sys.stderr is before, "pytest's own"
