"""A process that was asked to end is gone in time, also if its main thread or the storage hangs."""

import signal
import subprocess
import sys
import time

import pytest

CODE = """
import threading, time
from tune_spaces.ray_tune import interrupts
interrupts.WITHIN_S, interrupts.DESCRIBE_S = 1.5, 0.5
with interrupts.interruptible(ends_process=True) as asked:
    asked.describe = lambda: {describe}
    with asked.awaited():
        threading.Timer(0.3, print, ("ready",), {{"flush": True}}).start()  # it waits by then
        {wait}
"""
SLEEPS = "while True: time.sleep(0.1)"
IN_C = (
    "import ctypes; a, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock; lock(a); lock(a)"
)


@pytest.mark.parametrize(
    ("describe", "wait", "said"),
    [
        ("'(to resume: x)'", SLEEPS, "stopped by SIGTERM (to resume: x)\n"),
        ("time.sleep(60)", SLEEPS, "stopped by SIGTERM\n"),
        ("1 / 0", SLEEPS, "stopped by SIGTERM\n"),
        ("'(to resume: x)'", IN_C, "stopped by SIGTERM (to resume: x)\n"),
    ],
    ids=["sleeps", "storage hangs", "unreadable", "hangs in C"],
)
def test_a_process_that_waits_for_ever_is_ended_in_one_line(describe: str, wait: str, said: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.format(describe=describe, wait=wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(30) == 1
    finally:
        process.kill()
    assert time.monotonic() - began < 10
    assert process.stdout.read() == said


def test_a_signal_to_a_forked_child_ends_the_child_alone() -> None:
    code = """
import os, signal, time
from tune_spaces.ray_tune import interrupts
interrupts.WITHIN_S, interrupts.DESCRIBE_S = 0.6, 0.3
with interrupts.interruptible(ends_process=True):
    child = os.fork()
    if not child:
        time.sleep(60)
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    time.sleep(1.2)
print("goes on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.endswith("goes on\n"), done
    assert done.returncode == 0
