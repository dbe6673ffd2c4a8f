"""Results are shared among specs that agree in the fields which were read for them, whichever these are."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bridge_common.errors import UserError
from ray_bridge import JobSpec, fingerprint, tiny
from ray_bridge.config.fields_read import SharedResults

OTHER: dict[type, Any] = {int: 98_765, float: 0.123_456, str: "other", bool: None}


def other(spec: JobSpec, name: str) -> JobSpec:
    """Return a copy with another value of a field, whether or not it makes sense."""
    value = getattr(spec, name)
    return spec.model_copy(update={name: not value if isinstance(value, bool) else OTHER.get(type(value), "other")})


@pytest.mark.parametrize("name", JobSpec.model_fields)
def test_what_was_read_of_one_field_is_shared_by_specs_that_agree_in_it(name: str) -> None:
    read: list[Any] = []

    def look(spec: JobSpec) -> Any:
        read.append(getattr(spec, name))
        return read[-1]

    shared, spec = SharedResults(look), tiny()
    specs = [spec, *(other(spec, field) for field in JobSpec.model_fields)]
    assert [shared(one) for one in specs] == [getattr(one, name) for one in specs]
    assert read == [getattr(spec, name), getattr(other(spec, name), name)]


def test_what_depends_on_a_field_that_only_some_read_is_told_apart() -> None:
    def look(spec: JobSpec) -> int:
        return spec.soft_tokens if spec.kl_alignment else 0

    shared, spec = SharedResults(look), tiny(kl_alignment=True, soft_tokens=3)
    specs = [spec.replace(kl_alignment=on, soft_tokens=tokens) for on in (False, True) for tokens in (3, 5)]
    assert [shared(one) for one in specs] == [0, 0, 3, 5]
    assert len(shared._known) == 3


WHOLE: dict[str, Callable[[JobSpec], Any]] = {
    "flat": lambda spec: spec.flat(),
    "replace": lambda spec: spec.replace(seed=1),
    "vars": lambda spec: dict(vars(spec)),
    "items": dict,
    "dump": lambda spec: spec.model_dump(),
    "json": lambda spec: spec.model_dump_json(),
    "copy": lambda spec: copy.deepcopy(spec).seed,
    "same": lambda spec: spec == tiny(),
    "repr": lambda spec: repr(spec).partition("(")[2],
    "pickle": lambda spec: pickle.loads(pickle.dumps(spec)).seed,
    "fingerprint": fingerprint,
}


@pytest.mark.parametrize("whole", WHOLE)
def test_what_looks_at_the_whole_spec_depends_on_every_field(whole: str) -> None:
    calls: list[JobSpec] = []

    def look(spec: JobSpec) -> Any:
        calls.append(spec)
        return WHOLE[whole](spec)

    shared, spec = SharedResults(look), tiny()
    assert shared(spec) == WHOLE[whole](spec)
    shared(spec.replace(seed=spec.seed))
    assert len(calls) == 1
    shared(spec.replace(warmup_steps=77))
    assert len(calls) == 2


def test_what_a_thread_reads_counts() -> None:
    with ThreadPoolExecutor(1) as pool:
        shared, spec = SharedResults(lambda spec: pool.submit(lambda: spec.seed).result()), tiny()
        assert [shared(spec.replace(seed=seed)) for seed in (1, 2)] == [1, 2]


def test_properties_depend_on_the_fields_that_they_read() -> None:
    shared, spec = SharedResults(lambda spec: spec.inserted), tiny(soft_tokens=4)
    assert [shared(one) for one in (spec, spec.replace(seed=9), spec.replace(soft_tokens=5))] == [4, 4, 5]
    assert [set(read) for read, _ in shared._known] == [{"injection", "soft_tokens"}] * 2


def test_a_changed_copy_is_not_taken_for_the_spec() -> None:
    shared, spec = SharedResults(lambda spec: spec.replace(soft_tokens=7).soft_tokens), tiny(soft_tokens=4)
    assert shared(spec) == 7
    [(read, _)] = shared._known
    assert read["soft_tokens"] == 4


def test_failures_are_not_kept() -> None:
    def refuse(spec: JobSpec) -> None:
        raise UserError(f"steps={spec.steps}")

    shared = SharedResults(refuse)
    for steps in (1, 1, 2):
        with pytest.raises(UserError, match=f"steps={steps}"):
            shared(tiny(steps=steps))
