"""A translator that is pushed to a hub and loaded from it by name, by `huggingface_hub` itself on a local server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ray_bridge import Translator
from tests.support.command_line import ROOT
from tests.support.model_hub import model_hub

QUESTION = "Tom has dodici apples and eats 5. How many are left?"
PUSH = """
import sys
from ray_bridge import Translator
Translator.load(sys.argv[1], device="cpu").push_to_hub("somebody/translator", commit_message="first")
loaded = Translator.from_pretrained("somebody/translator", device="cpu")
print(loaded.generate(sys.argv[2], max_new_tokens=6).text, end="")
"""
LOAD = """
import sys
from bridge_common.errors import UserError
from ray_bridge import Translator
try:
    Translator.load(sys.argv[1])
except UserError as error:
    print(error, end="")
"""


def run(code: str, *arguments: str, hub: str, home: Path) -> str:
    """Run Python in a process of its own, since `huggingface_hub` reads the hub's address when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables = {"HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_TOKEN": "hf_of_a_test", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=kept | variables,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_is_pushed_is_loaded_by_its_name(trial: Path, translator: Translator, tmp_path: Path) -> None:
    with model_hub() as hub:
        text = run(PUSH, str(trial), QUESTION, hub=hub.url, home=tmp_path)
        assert text == translator.generate(QUESTION, max_new_tokens=6).text
        assert sorted(hub.files["somebody/translator"]) == [
            *("README.md", "config.json", "question_ids.json", "translator.safetensors")
        ]
        weights = hub.files["somebody/translator"]["translator.safetensors"]
        assert weights == translator.saved.weights.read_bytes()
        assert hub.tokens == {"Bearer hf_of_a_test"}
        message = run(LOAD, "somebody/else", hub=hub.url, home=tmp_path)
        assert message.startswith("somebody/else is no folder, and the hub gave no translator of that name: ")
        assert "\n" not in message
