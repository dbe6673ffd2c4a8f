"""Tasks and bridges of one's own: named, checked before anything starts, and identified by their source."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bridge_common.errors import UserError
from ray_bridge import BRIDGES, TASKS, JobSpec, Setting, build, fingerprint, tiny
from ray_bridge.bridges.translator import build_bridge, build_translator
from ray_bridge.config.plugins import import_plugin, import_plugins, source_of
from ray_bridge.tasks.splits import load_splits, make_task
from tests.support.model_pairs import frozen
from tests.support.plugin_modules import EXAMPLE, importable

OWN: dict[str, Any] = {"task": "my_plugin:Sums", "bridge": "my_plugin:LowRank"}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Path]:
    with importable(tmp_path) as folder:
        (folder / "my_plugin.py").write_text(EXAMPLE)
        yield folder


POOLED = '''
from torch import nn

from ray_bridge import ExactScale, Moments, Whitening


class Pooled(nn.Module):
    """Soft tokens that are linear maps of a question's mean source state."""

    def __init__(self, source_size, target_size, target_rms, soft_tokens):
        super().__init__()
        self.whitening = Whitening(source_size)
        self.head = nn.Linear(source_size, soft_tokens * target_size)
        self.scale = ExactScale(target_rms)

    @classmethod
    def from_spec(cls, spec, **sizes):
        return cls(soft_tokens=spec.soft_tokens, **sizes)

    def pool(self, states, mask):
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (B, d_s)

    def moments(self, states, mask):
        return [Moments.of(self.pool(states, mask))]

    def fit(self, moments):
        self.whitening.fit(moments[0])

    def forward(self, states, mask, noise, dropped=None):
        z = self.head(self.whitening(self.pool(states, mask)))  # (B, K d_t)
        return self.scale(z.unflatten(1, noise.shape[1:]))  # (B, K, d_t)
'''


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bridge": "rnn"},
            "bridge='rnn': there are dit, resampler, dit_xattn, linear, c2c, constant; a class of your own is "
            "MODULE:CLASS",
        ),
        ({"task": "sums"}, "task='sums': there are synthetic, gsm8k, math, hotpotqa, arc_challenge"),
        ({"task": "nowhere:Sums"}, "plug-in nowhere cannot be imported on "),
        ({"plugins": "nowhere.inside"}, "start in the folder that holds it"),
        ({"plugins": "lab.py/x"}, "give a module's dotted name, as in `import NAME`, not a path"),
        ({"plugins": "broken"}, "(SyntaxError: "),
        ({"plugins": "needy"}, "(ModuleNotFoundError: No module named 'absent'): `python -c 'import needy'` shows"),
        (
            {"task": "my_plugin:Absent"},
            "task='my_plugin:Absent': module my_plugin has no class 'Absent'; give MODULE:CLASS",
        ),
        ({"task": "my_plugin:register_toggle"}, "module my_plugin has no class 'register_toggle'"),
        ({"task": "my_plugin:LowRank"}, "task='my_plugin:LowRank': the class lacks name, instruction, stops, "),
        (
            {"bridge": "my_plugin:Sums"},
            "the class lacks forward, moments, fit, parameters, buffers; see docs",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_with_a_remedy(lab: Path, change: dict[str, Any], message: str) -> None:
    (lab / "broken.py").write_text("def half(:\n")
    (lab / "needy.py").write_text("import absent\n")
    with pytest.raises(UserError) as error:
        tiny(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_the_package_are_checked_without_torch() -> None:
    code = (
        "import sys; from ray_bridge import tiny; tiny(bridge='resampler', task='math'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_registered_class_has_the_interface() -> None:
    for registry in (TASKS, BRIDGES):
        for entry in registry.entries():
            assert registry.load(entry.name)
            assert entry.name in str(JobSpec.model_fields[registry.field].description)


def test_a_plug_in_may_register_names(lab: Path) -> None:
    (lab / "named.py").write_text(
        'from ray_bridge import TASKS\nTASKS.register("additions", "my_plugin:Sums", "sums of two numbers")\n'
    )
    spec = tiny(plugins=("named",), task="additions")
    assert make_task(spec).name == "sums"
    assert ("additions", "my_plugin:Sums") in [(entry.name, entry.target) for entry in TASKS.entries()]
    with pytest.raises(UserError, match="task 'additions' is my_plugin:Sums already: register my:Other under another"):
        TASKS.register("additions", "my:Other", "other sums")
    with pytest.raises(UserError, match="task 'math' is ray_bridge"):
        TASKS.register("math", "my_plugin:Sums", "sums")


def test_the_line_on_a_module_that_fails_says_where_what_and_what_to_do(lab: Path) -> None:
    (lab / "silent.py").write_text("raise ValueError\n")
    (lab / "wordy.py").write_text("raise ValueError('the first line\\nthe second')\n")
    (lab / "ends.py").write_text("raise SystemExit(7)\n")
    (lab / "mute.py").write_text("class Mute(Exception):\n    __str__ = None\nraise Mute\n")
    (lab / "kind.py").write_text("from bridge_common.errors import UserError\nraise UserError('use another one')\n")
    host, elsewhere = socket.gethostname(), "start in the folder that holds it, send that folder with "
    for module, line in {
        "silent": f"silent cannot be imported on {host} (ValueError): `python -c 'import silent'` shows",
        "wordy": f"wordy cannot be imported on {host} (ValueError: the first line): `python -c 'import wordy'` shows",
        "ends": f"ends cannot be imported on {host} (SystemExit: 7): `python -c 'import ends'` shows",
        "mute": f"mute cannot be imported on {host} (Mute): `python -c 'import mute'` shows",
        "absent.inside": f"absent.inside cannot be imported on {host} (No module named 'absent'): {elsewhere}",
        "silent_": f"silent_ cannot be imported on {host} (No module named 'silent_'): {elsewhere}",
    }.items():
        with pytest.raises(UserError) as error:
            import_plugin(module)
        assert str(error.value).startswith(f"plug-in {line}")
    with pytest.raises(UserError, match=r"^use another one$"):
        import_plugin("kind")


@pytest.mark.parametrize("module", ["", "a-b", "a.", ".a", "a..b", "1a", "a.1b", "a/b", "a b", "a\n"])
def test_a_plug_in_is_named_as_in_an_import(module: str) -> None:
    with pytest.raises(UserError, match="give a module's dotted name, as in `import NAME`, not a path"):
        import_plugin(module)


def test_a_plug_in_may_be_a_file_a_package_or_a_folder_of_modules(lab: Path) -> None:
    (lab / "pack").mkdir()
    (lab / "pack" / "__init__.py").touch()
    (lab / "folder").mkdir()
    assert source_of(import_plugin("my_plugin")) == lab / "my_plugin.py"
    assert source_of(import_plugin("pack")) == lab / "pack"
    assert source_of(import_plugin("folder")) == lab / "folder"
    with pytest.raises(UserError, match="plug-in sys has no source file: name a module that is a file or a package"):
        source_of(sys)


# -- use --------------------------------------------------------------------------------------------------------------


def test_a_task_and_a_bridge_of_ones_own_are_built(lab: Path) -> None:
    spec = tiny(**OWN, **{"extra.largest": "3", "extra.rank": 2}, num_fewshot=2, validation_examples=4)
    splits = load_splits(spec)
    assert len(splits.test) == 100
    assert splits.header.count("Question:") == 2
    assert max(int(example.gold) for example in splits.test) == 4
    built = build_translator(spec, frozen("mistral", 48), frozen("llama", 32))
    assert type(built.bridge).__name__ == "LowRank"
    assert built.flow is None
    z = built.bridge(torch.randn(2, 6, 32), torch.ones(2, 6, dtype=torch.long), torch.randn(2, 16, 32))  # (B, K, d_t)
    offset = built.bridge.head[1].bias.expand(1, 1, -1)
    directions = torch.cat([z.flatten(0, 1), offset.flatten(0, 1)])
    assert torch.linalg.matrix_rank(directions, rtol=1e-4) <= 3, "two directions and the offset"


def test_a_bridge_is_written_from_scratch_with_public_names_alone(lab: Path) -> None:
    (lab / "pooled.py").write_text(POOLED)
    target = frozen("llama", 32)
    built = build_translator(tiny(bridge="pooled:Pooled", geometry_projection=False), frozen("mistral", 48), target)
    states, mask, noise = torch.randn(64, 6, 48), torch.ones(64, 6, dtype=torch.long), torch.randn(64, 16, 32)
    built.bridge.fit(built.bridge.moments(states, mask))
    z = built.bridge(states, mask, noise)  # (B, K, d_t)
    assert z.shape == noise.shape
    torch.testing.assert_close(z.pow(2).mean(-1).sqrt(), torch.full((64, 16), target.embedding_rms))


def test_a_bridge_that_continues_a_flow_is_one(lab: Path) -> None:
    (lab / "flows.py").write_text("from ray_bridge import DiTBridge\n\n\nclass Mine(DiTBridge):\n    pass\n")
    from ray_bridge.objectives.objective import objective_terms

    spec = tiny(bridge="flows:Mine")
    assert build_translator(spec, frozen("mistral", 48), frozen("llama", 32)).flow is not None
    assert "flow" in [term.name for term in objective_terms(spec)]
    assert "flow" not in [term.name for term in objective_terms(tiny(bridge="my_plugin:LowRank"))]


def test_a_bridge_without_a_scale_is_named(lab: Path) -> None:
    (lab / "bare.py").write_text(
        "from ray_bridge import Resampler\n\n\nclass Bare(Resampler):\n"
        "    def __init__(self, **sizes):\n        super().__init__(**sizes)\n        del self.scale\n"
    )
    with pytest.raises(UserError, match="bridge='bare:Bare': its `scale` must be an ExactScale"):
        build_bridge(tiny(bridge="bare:Bare"), 48, frozen("llama", 32))


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_read_as_their_default_s_type(lab: Path) -> None:
    assert tiny(**OWN, **{"extra.rank": "3"}).extra == {"largest": 20, "rank": 3}
    assert tiny(**OWN, extra={"rank": 3}).extra["rank"] == 3
    for default, text, value in ((8, "3", 3), (0.5, "3", 3.0), (False, "on", True), ("plain", "3", "3")):
        read = Setting(name="x", default=default, meaning="a test").read(text)
        assert (read, type(read)) == (value, type(default))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.rnak": 1}, "unknown field 'extra.rnak': there are extra.largest, extra.rank"),
        ({"extra.largest": "many"}, "extra.largest='many': input should be a valid integer"),
        ({"extra.largest": 1.5}, "extra.largest=1.5: input should be a valid integer"),
        ({"bridge": "dit", "extra.rank": 1}, "unknown field 'extra.rank': there are extra.largest"),
        (
            {"task": "synthetic", "bridge": "dit", "extra.rank": 1},
            "unknown field 'extra.rank': task synthetic and bridge dit have no settings of their own",
        ),
    ],
)
def test_settings_that_cannot_be(lab: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        tiny(**{**OWN, **change})
    assert str(error.value).startswith(message)


def test_two_settings_of_one_name_are_refused(lab: Path) -> None:
    (lab / "twin.py").write_text(EXAMPLE.replace('name="rank"', 'name="largest"'))
    with pytest.raises(UserError, match="my_plugin:Sums and twin:LowRank both have a setting 'largest': rename"):
        tiny(task="my_plugin:Sums", bridge="twin:LowRank")


def test_a_setting_must_be_a_setting(lab: Path) -> None:
    (lab / "loose.py").write_text(EXAMPLE.replace('Setting(name="largest", default=20, meaning="', '("'))
    with pytest.raises(UserError, match="`settings` of the class must be a tuple of"):
        tiny(task="loose:Sums")


def test_settings_of_a_bridge_that_is_replaced_go_with_it(lab: Path) -> None:
    spec = tiny(**OWN, **{"extra.rank": 5})
    assert spec.replace(soft_tokens=8).extra["rank"] == 5
    assert spec.replace(bridge="dit").extra == {"largest": 20}
    assert spec.replace(task="synthetic").extra == {"rank": 5}
    assert spec.replace(**{"extra.rank": 7, "bridge": "my_plugin:LowRank"}).extra["rank"] == 7
    assert spec.replace(task="synthetic", bridge="dit").flat() == tiny(bridge="dit").flat()


def test_a_record_reads_back(lab: Path) -> None:
    spec = tiny(**OWN, plugins=("my_plugin",), **{"extra.rank": 5})
    record = spec.model_dump()
    assert record["extra.rank"] == 5
    assert list(record["plugins"]) == ["my_plugin"]
    assert build(JobSpec, record) == spec
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_record_without_plug_ins_is_what_it_was() -> None:
    record = tiny().model_dump()
    assert not [name for name in record if name.startswith(("extra", "plugins"))]
    assert list(record)[:3] == ["source", "source_revision", "target"]


def test_a_record_s_modules_are_imported(lab: Path) -> None:
    import_plugins({"task": "synthetic", "bridge": "my_plugin:LowRank"})
    assert "my_plugin" in sys.modules
    import_plugins({"task": "synthetic", "bridge": "dit"})
    with pytest.raises(UserError, match="plug-in gone cannot be imported"):
        import_plugins({"plugins": ["gone"]})


# -- identity ---------------------------------------------------------------------------------------------------------


def test_an_edited_plug_in_is_another_experiment_and_a_moved_one_is_not(lab: Path) -> None:
    own = fingerprint(tiny(**OWN))
    shutil.copy(lab / "my_plugin.py", lab / "elsewhere.py")
    assert own == fingerprint(tiny(task="elsewhere:Sums", bridge="elsewhere:LowRank"))
    named = fingerprint(tiny(plugins=("my_plugin",)))
    assert named == fingerprint(tiny(plugins=("elsewhere",)))
    assert len({own, named, fingerprint(tiny()), fingerprint(tiny(bridge="my_plugin:LowRank"))}) == 4
    (lab / "my_plugin.py").write_text(EXAMPLE + "\n# edited\n")
    assert own != fingerprint(tiny(**OWN))
    assert named != fingerprint(tiny(plugins=("my_plugin",)))
    assert fingerprint(tiny()) == fingerprint(tiny(plugins=()))


def test_every_file_of_a_package_counts(lab: Path) -> None:
    (lab / "pack").mkdir()
    (lab / "pack" / "__init__.py").write_text("from pack.inner import LowRank\n")
    (lab / "pack" / "inner.py").write_text(EXAMPLE)
    before = fingerprint(tiny(bridge="pack:LowRank"))
    (lab / "pack" / "__pycache__").mkdir(exist_ok=True)
    (lab / "pack" / "__pycache__" / "inner.cpython-311.pyc").write_bytes(b"compiled")
    assert before == fingerprint(tiny(bridge="pack:LowRank")), "compiled files do not count"
    (lab / "pack" / "inner.py").write_text(EXAMPLE + "\n")
    assert before != fingerprint(tiny(bridge="pack:LowRank"))


def test_order_of_plug_ins_does_not_matter(lab: Path) -> None:
    (lab / "other.py").write_text("x = 1\n")
    assert fingerprint(tiny(plugins="my_plugin,other")) == fingerprint(tiny(plugins=("other", "my_plugin", "other")))


def test_the_value_of_a_setting_counts_and_its_default_spelled_out_does_not(lab: Path) -> None:
    assert fingerprint(tiny(**OWN)) == fingerprint(tiny(**OWN, **{"extra.rank": 8}))
    assert fingerprint(tiny(**OWN)) != fingerprint(tiny(**OWN, **{"extra.rank": 3}))


def test_a_module_without_source_is_refused(lab: Path) -> None:
    with pytest.raises(UserError, match="plug-in sys has no source file"):
        fingerprint(tiny(plugins=("sys",)))
