"""A trained translator timed on a GPU: what is counted is what is counted on a CPU."""

from pathlib import Path

import pytest
import torch

from bridge_common.files import write_json
from bridge_common.metric_names import CONDITIONS
from ray_bridge import Translator
from ray_bridge.inference.benchmark import benchmark
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import make_pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


def test_costs_do_not_depend_on_the_device_and_times_are_of_the_gpu(tmp_path: Path) -> None:
    spec = small_spec(make_pair(tmp_path / "pair"), steps=2, eval_every=2, warmup_steps=1)
    folder = tmp_path / "trials" / "full-0"
    write_json(folder / "spec.json", {"spec": spec.model_dump()})
    write_json(folder / "result.json", run_job(spec, folder))
    on_cpu, on_gpu = (benchmark(Translator.load(folder, device=d), items=8, batch_size=4) for d in ("cpu", "cuda"))
    assert on_gpu.device == torch.cuda.get_device_name()
    same = [n for n in on_cpu.metrics if n.startswith(("cost/bridge", "cost/prefill", "cost/cached", "cost/passed"))]
    texts = [name for name in same if "text_bridge" not in name]  # which a GPU may round to other words
    assert {n: on_gpu.metrics[n] for n in texts} == {n: on_cpu.metrics[n] for n in texts}
    assert set(on_gpu.timings) == set(CONDITIONS)
    assert all(timing.first_token > 0 for timing in on_gpu.timings.values())
