"""The cause of a failure is the error that the job raised, in one line, without what Ray wraps around it."""

import pickle
from pathlib import Path

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from bridge_common.errors import UserError
from tune_spaces.ray_tune.causes import cause_line, error_record, innermost

DIVERGED = FloatingPointError("the loss is not finite at step 3\nlower learning_rate")
SNIPPET = "[Rank 0 Error Snippet]:\nTraceback (most recent call last):\n" + "  File ...\n" * 40


def wrapped(failures: dict[int, Exception]) -> Exception:
    """Return what Ray Train raises when workers failed, as it reaches the driver."""
    error: Exception = pickle.loads(pickle.dumps(WorkerGroupError(SNIPPET, failures)))
    return error


def test_the_wrappers_of_train_and_of_tasks_are_taken_off() -> None:
    inner = UserExceptionWithTraceback(DIVERGED, "Traceback ...")
    task = RayTaskError("f", "Traceback ...", DIVERGED).as_instanceof_cause()
    for error in (DIVERGED, inner, task, wrapped({0: DIVERGED}), wrapped({0: inner}), ControllerError(task)):
        assert cause_line(error) == "FloatingPointError: the loss is not finite at step 3"


def test_of_several_workers_the_one_counts_that_did_not_lose_another() -> None:
    lost = RuntimeError("[../gloo/pair.cc:553] Connection closed by peer [127.0.0.1]:4711")
    assert innermost(wrapped({0: lost, 1: DIVERGED})).args == DIVERGED.args
    assert cause_line(wrapped({0: lost, 1: lost})).startswith("RuntimeError: [../gloo")
    refusal = UserError("no task 'x': there are synthetic, gsm8k")
    assert cause_line(wrapped({0: DIVERGED, 1: refusal})) == "no task 'x': there are synthetic, gsm8k"


def test_an_own_error_is_not_looked_into_further() -> None:
    """What the job says of its cause has the remedy, which torch's own error lacks."""
    error = MemoryError("preparing the states does not fit: lower micro_batch")
    error.__cause__ = RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    assert cause_line(error) == "MemoryError: preparing the states does not fit: lower micro_batch"


def test_a_process_that_died_is_named_by_rays_own_first_line() -> None:
    assert cause_line(wrapped({0: ActorDiedError()})).startswith("ActorDiedError: The actor died")
    assert cause_line(KeyboardInterrupt()) == "KeyboardInterrupt"


@pytest.mark.parametrize(("error", "refused"), [(DIVERGED, False), (UserError("give another --task"), True)])
def test_the_last_line_of_the_record_is_the_cause(error: Exception, refused: bool, tmp_path: Path) -> None:
    record = error_record(wrapped({0: error}), "start-1")
    assert (record["attempt"], record["refused"]) == ("start-1", refused)
    assert str(record["traceback"]).splitlines()[-1] == record["error"]
    assert "[Rank 0 Error Snippet]" in str(record["traceback"])
    assert "\n" not in str(record["error"])
