"""On a GPU: every rival trains, and its saved weights give the same texts on the CPU, in float64."""

from pathlib import Path

import pytest
import torch

from bridge_common.files import read_jsonl, write_json
from ray_bridge.config.presets import tiny_run
from ray_bridge.distributed import Worker
from ray_bridge.inference.translator import Translator
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders
from tune_spaces.design.rivals import rival_variants

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("variant", rival_variants(), ids=lambda variant: variant.name)
def test_a_rival_trains_on_a_gpu(variant: object, folders: PairFolders, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    sizes = {"steps": 8, "test_examples": 4, "decode_aware": True, "decode_questions": 1, "decode_samples": 2}
    spec = variant.spec(small_spec(folders, **sizes), 0)  # type: ignore[attr-defined]
    worker = Worker(device=torch.device("cuda", 0))
    result = Trainer(
        spec, tiny_run(workers=1, autocast=True), tmp_path, LocalSession(tmp_path, worker), tmp_path / "cache"
    ).run()
    assert result is not None
    write_json(tmp_path / "spec.json", {"variant": "v", "seed": 0, "fingerprint": "0" * 16, "spec": spec.model_dump()})
    write_json(tmp_path / "result.json", result)
    rows = read_jsonl(tmp_path / "samples.jsonl")
    answers = Translator.load(tmp_path, device="cpu").generate([str(row["question"]) for row in rows])
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
