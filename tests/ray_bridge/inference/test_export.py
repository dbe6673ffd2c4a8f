"""Exported translators and bundles: they answer as the trial does, and refuse other models and broken files."""

import shlex
import shutil
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from bridge_common.errors import UserError
from bridge_common.files import read_json, read_jsonl, write_json, write_jsonl
from cluster.cli.request import make_campaign, parse_phase
from cluster.cli.translators import export
from mlflow_utils import declarations, provenance
from ray_bridge import Translator
from ray_bridge.config.fingerprint import fingerprint
from ray_bridge.inference.bundle import verify, write_bundle
from ray_bridge.inference.export import write_export
from tests.support.model_pairs import PairFolders, make_pair

QUESTION = "Tom has dodici apples and eats 5. How many are left?"


def test_an_export_answers_as_its_trial(translator: Translator, tmp_path: Path) -> None:
    write_export(translator.to_export, tmp_path / "export")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        "README.md",
        "config.json",
        "question_ids.json",
        "translator.safetensors",
    ]
    loaded = Translator.load(tmp_path / "export", source=translator.pair.source, target=translator.pair.target)
    assert loaded.generate(QUESTION).text == translator.generate(QUESTION).text


def test_a_plain_export_answers_test_questions_as_recorded(translator: Translator, trial: Path, tmp_path: Path) -> None:
    write_export(translator.to_export, tmp_path / "export")
    loaded = Translator.load(tmp_path / "export", source=translator.pair.source, target=translator.pair.target)
    rows = read_jsonl(trial / "samples.jsonl")
    answers = loaded.generate([row["question"] for row in rows])
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    (tmp_path / "export" / "question_ids.json").unlink()  # as an earlier version wrote it
    loaded = Translator.load(tmp_path / "export", source=translator.pair.source, target=translator.pair.target)
    questions, ids = [row["question"] for row in rows], [row["id"] for row in rows]
    assert [a.text for a in loaded.generate(questions, ids=ids)] == [row["bridged_output"] for row in rows]
    noise = loaded.soft_tokens(questions[0]).embeds
    assert torch.equal(noise, loaded.soft_tokens(questions[0]).embeds)
    assert not torch.equal(noise, translator.soft_tokens(questions[0]).embeds)


def test_digests_of_the_models_are_recorded_at_training(translator: Translator, trial: Path, tmp_path: Path) -> None:
    recorded = read_json(trial / "selected" / "selected.json")["models"]
    assert recorded == {role: getattr(translator.pair, role).identity.record() for role in ("source", "target")}
    write_export(translator.to_export, tmp_path / "export")
    assert read_json(tmp_path / "export" / "config.json")["models"] == recorded
    assert read_json(tmp_path / "export" / "config.json")["models_recorded_at"] == "training"
    assert "with these digests, recorded at training." in (tmp_path / "export" / "README.md").read_text()
    other = make_pair(tmp_path / "other", seed=7)
    with pytest.raises(UserError, match=r"is not the target that full-0 was trained with \(other weights\)"):
        Translator.load(trial, target=other.target)


def test_digests_of_an_older_trial_are_said_to_be_computed_at_its_export(trial: Path, tmp_path: Path) -> None:
    older = _copied(trial, tmp_path)
    write_json(older / "selected" / "selected.json", {"step": 12, "validation_accuracy": 0.5})
    done = CliRunner().invoke(export, [str(older), str(tmp_path / "export")], catch_exceptions=False)
    assert "note: the digests of source and target were not recorded at training; computed now" in done.stderr
    assert read_json(tmp_path / "export" / "config.json")["models_recorded_at"] == "export"
    assert "not recorded at training, but computed at the export" in (tmp_path / "export" / "README.md").read_text()


def test_weights_that_were_spread_over_workers_are_not_compared(trial: Path, tmp_path: Path) -> None:
    spread = _copied(trial, tmp_path)
    record = read_json(spread / "selected" / "selected.json")
    record["models"]["target"]["weights"] = ""
    write_json(spread / "selected" / "selected.json", record)
    loaded = Translator.load(spread)
    assert loaded.saved.recorded_at == "export"
    assert loaded.identities["target"].weights


def test_the_environment_names_commands_that_run(bundle: Path, translator: Translator, tmp_path: Path) -> None:
    environment = read_json(bundle / "environment.json")
    assert environment["verify"] == "python -m cluster verify ."
    python, _, package, phase, *options = shlex.split(environment["command"])
    assert (python, package, phase) == ("python", "cluster", "sweep")
    campaign = make_campaign("sweep", parse_phase(phase, [*options, "--storage", str(tmp_path)]))
    (trial,) = campaign.plan.trials.values()
    assert trial.spec == translator.spec
    assert fingerprint(trial.spec) == fingerprint(translator.spec)


def _copied(trial: Path, folder: Path) -> Path:
    return shutil.copytree(trial, folder / "c" / "trials" / trial.name)


def test_an_export_goes_through_the_hubs_own_methods(translator: Translator, tmp_path: Path) -> None:
    translator.save_pretrained(tmp_path / "saved")
    loaded = Translator.from_pretrained(tmp_path / "saved")
    assert loaded.generate(QUESTION).text == translator.generate(QUESTION).text
    with pytest.raises(UserError, match="from_pretrained takes no dtype"):
        Translator.from_pretrained(tmp_path / "saved", dtype="float16")
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert read_json(again / "config.json") == read_json(tmp_path / "saved" / "config.json")


def test_the_card_says_what_was_measured(translator: Translator, bundle: Path) -> None:
    card = (bundle / "README.md").read_text()
    accuracy = read_json(bundle / "result.json")["metrics"]["accuracy/bridged"]
    assert f"| bridged | target with this translator's soft tokens | {100 * accuracy:.1f} % [" in card
    assert "random_soft" in card
    assert translator.identities["source"].weights in card
    assert translator.spec.source not in card  # the folder of a machine
    assert "torch" in card


@pytest.mark.parametrize(("dirty", "place"), [(True, "../full-0"), (False, ".")])
def test_card_and_environment_name_the_commit_that_the_driver_declared(
    dirty: bool, place: str, trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = tmp_path / "campaign"
    shutil.copytree(trial, campaign / "trials" / "full-0")
    for name, commit in {"full-0": "a" * 40, "B-0": "b" * 40}.items():
        tags = provenance.tags() | {"git_commit": commit, "git_dirty": str(dirty)}
        folder = declarations.relative_path(campaign, campaign / "trials" / name)
        row: dict[str, Any] = {"folder": folder, "name": name, "fingerprint": "0", "params": {}, "tags": tags}
        declarations.append(campaign, "trial", "phase1", **row)
    write_json(campaign / "plan.json", {"phase": "phase1"})
    monkeypatch.chdir(campaign / "trials" / "full-0")
    write_bundle(Translator.load(place, device="cpu").to_export, tmp_path / "bundle")
    assert read_json(tmp_path / "bundle" / "plan.json") == {"phase": "phase1"}
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"- commit {'a' * 40}{', with changes that were not committed' if dirty else ''}\n" in card
    assert "- data: 40 train, 8 validation, 13 test examples\n" in card
    assert read_json(tmp_path / "bundle" / "environment.json")["trained_on"]["git_commit"] == "a" * 40


def test_a_bundle_is_verified_item_by_item(bundle: Path) -> None:
    result = verify(Translator.load(bundle), items=10)
    assert (result.items, result.same, result.same_score, result.differing) == (10, 10, 10, ())


def test_a_changed_answer_is_noticed(bundle: Path, tmp_path: Path) -> None:
    forged = shutil.copytree(bundle, tmp_path / "forged")
    rows = read_jsonl(forged / "samples.jsonl")
    write_jsonl(forged / "samples.jsonl", [rows[0] | {"bridged_output": "#### 7", "bridged_correct": True}, *rows[1:]])
    result = verify(Translator.load(forged), items=len(rows))
    assert result.differing == (rows[0]["id"],)
    assert (result.same, result.same_score) == (len(rows) - 1, len(rows) - 1)


def test_other_models_are_refused(bundle: Path, tmp_path: Path) -> None:
    other = make_pair(tmp_path / "other", seed=7)
    with pytest.raises(UserError, match=r"is not the source that bundle was trained with.*weights.*source=PLACE"):
        Translator.load(bundle, source=other.source)


def test_models_whose_folders_were_renamed_are_one_line_with_the_remedy(bundle: Path, tmp_path: Path) -> None:
    renamed = shutil.copytree(bundle, tmp_path / "renamed")
    config = read_json(renamed / "config.json")
    write_json(renamed / "config.json", config | {"spec": config["spec"] | {"target": str(tmp_path / "gone")}})
    with pytest.raises(UserError, match="gone") as raised:
        Translator.load(renamed)
    assert "\n" not in str(raised.value)


def test_a_bundle_under_another_name_is_the_same_bundle(bundle: Path, tmp_path: Path) -> None:
    assert verify(Translator.load(shutil.copytree(bundle, tmp_path / "under another name")), items=3).same == 3


def test_models_that_moved_are_found_by_content(bundle: Path, folders: PairFolders, tmp_path: Path) -> None:
    moved = shutil.copytree(folders.target, tmp_path / "moved")
    (moved / "NOTES.md").write_text("beside the model")
    assert Translator.load(bundle, target=moved).generate(QUESTION).text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
        (lambda f: (f / "config.json").write_text("[" * 100_000), r"damaged \(nested too deeply\): export the"),
        (lambda f: (f / "question_ids.json").write_text("[]"), r"question_ids.json is damaged \(no ids by digest\)"),
        (lambda f: (f / "config.json").write_text("[]"), "is no translator's"),
        (lambda f: (f / "question_ids.json").write_text('{"0": "\\ud800"}'), "question_ids.json is damaged"),
        (lambda f: write_json(f / "config.json", {"architectures": ["LlamaForCausalLM"]}), "is no translator's"),
        (lambda f: write_json(f / "config.json", read_json(f / "config.json") | {"translator_format": 99}), "newer"),
        (lambda f: (f / "translator.safetensors").unlink(), "has no translator.safetensors"),
        (lambda f: (f / "translator.safetensors").write_bytes(b"torn"), "does not hold this translator's weights"),
        (
            lambda f: write_json(
                f / "config.json",
                (c := read_json(f / "config.json")) | {"spec": c["spec"] | {"hidden_size": 32}},
            ),
            "does not hold this translator's weights",
        ),
        (
            lambda f: write_json(
                f / "config.json",
                (c := read_json(f / "config.json")) | {"spec": c["spec"] | {"hidden_size": 10**9}},
            ),
            "memory does not hold a translator with hidden_size=1000000000",
        ),
        *[
            (lambda f, c=changes: (f / "config.json").write_text(dumps(read_json(f / "config.json") | c)), message)
            for changes, message in (
                ({"translator_format": "1"}, "has no format '1'"),
                ({"record": 7}, "config.json is damaged"),
                ({"exemplars": [{"question": "x"}]}, "config.json is damaged"),
                ({"exemplars": None}, "config.json is damaged"),
                *[
                    ({"exemplars": [{"id": "1", "index": 0, "question": "x", "answer": "x", "gold": "1"} | odd]}, said)
                    for odd, said in (
                        ({"question": "\ud800"}, r"config.json is damaged \('utf-8' codec can't encode"),
                        ({"answer": 7}, r"config.json is damaged \(7 stands where a text is expected\)"),
                        ({"choices": [7]}, r"config.json is damaged \(7 stands where a text is expected\)"),
                    )
                ],
                ({"models": None}, "config.json is damaged"),
                ({"models": {}}, r"config.json is damaged \(no 'source'\): export the translator again"),
                ({"models": {"source": {"weights": "0"}, "target": {}}}, "config.json is damaged"),
                ({"spec": {}}, "source"),
                ({"spec": {"nobody": 1}}, "nobody"),
                ({"spec": None}, "config.json is damaged"),
            )
        ],
        (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json is damaged"),
        (lambda f: (f / "config.json").rename(f / "settings.json"), "holds no translator"),
        (lambda f: (f / "trial.json").rename(f / "spec.json"), "has selected no checkpoint yet"),
        (lambda f: (f / "samples.jsonl").write_text("{\n"), "samples.jsonl:1 is damaged"),
        (lambda f: (f / "samples.jsonl").write_text('{"id": "1"}\n'), r"samples.jsonl is damaged \(no 'index'\)"),
        (lambda f: (f / "samples.jsonl").write_text("7\n"), "samples.jsonl is damaged"),
        (
            lambda f: (f / "samples.jsonl").write_bytes((f / "samples.jsonl").read_bytes()[:-1]),
            r"samples.jsonl is damaged \(its last line is incomplete\)",
        ),
        *[
            (
                lambda f, c=changes: (f / "samples.jsonl").write_text(
                    dumps(read_jsonl(f / "samples.jsonl")[0] | c) + "\n"
                ),
                "samples.jsonl is damaged",
            )
            for changes in (
                *({"gold": 7}, {"question": ""}, {"question": 7}, {"id": 7}, {"id": ["a"]}, {"choices": [7]}),
                *({"id": "\ud800"}, {"question": "\ud800"}, {"bridged_output": "\ud800"}),
            )
        ],
        (lambda f: (f / "config.json").write_text("[" * 100_000), "config.json is damaged"),
    ],
)
def test_a_broken_bundle_is_one_line(bundle: Path, tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    broken = shutil.copytree(bundle, tmp_path / "broken")
    change(broken)
    with pytest.raises(UserError, match=message) as raised:
        Translator.load(broken)
    assert "\n" not in str(raised.value)


def test_an_export_has_no_answers_to_verify(translator: Translator, tmp_path: Path) -> None:
    write_export(translator.to_export, tmp_path / "export")
    with pytest.raises(UserError, match="no recorded answers to verify"):
        verify(Translator.load(tmp_path / "export"))
    with pytest.raises(UserError, match="a bundle needs a finished trial's folder"):
        write_bundle(Translator.load(tmp_path / "export").to_export, tmp_path / "bundle")


def test_other_weights_are_one_line(bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    weights = bytearray((other / "translator.safetensors").read_bytes())
    weights[-1] ^= 1
    (other / "translator.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"does not hold this translator's weights.*sha256") as raised:
        Translator.load(other)
    assert "\n" not in str(raised.value)
    config = read_json(other / "config.json")
    del config["weights_sha256"]  # as early versions exported
    write_json(other / "config.json", config)
    assert Translator.load(other).generate(QUESTION).text


def write_plain(translator: Translator, folder: Path) -> None:
    write_export(translator.to_export, folder)


def save_for_the_hub(translator: Translator, folder: Path) -> None:
    translator.save_pretrained(folder)


@pytest.mark.parametrize("write", [write_plain, save_for_the_hub])
def test_an_export_over_a_bundle_leaves_no_record_of_another_translator(
    write: Callable[[Translator, Path], None], translator: Translator, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    pair = {"source": translator.pair.source, "target": translator.pair.target}
    write(Translator.load(tmp_path / "bundle", **pair), tmp_path / "bundle")  # its own record stays
    assert verify(Translator.load(tmp_path / "bundle", **pair), items=3).passed
    write(translator, tmp_path / "bundle")
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        *("README.md", "config.json", "notes.txt", "question_ids.json", "translator.safetensors")
    ]


def test_a_bundle_over_a_bundle_has_no_plan_of_another_campaign(
    translator: Translator, bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    (tmp_path / "bundle" / "plan.json").write_text("{}")
    write_bundle(translator.to_export, tmp_path / "bundle")  # of a trial without a plan
    assert not (tmp_path / "bundle" / "plan.json").exists()


def test_no_export_goes_into_a_trial(translator: Translator, trial: Path) -> None:
    before = sorted(trial.rglob("*"))
    for folder in (trial, trial / "export"):
        for write in (write_export, write_bundle):
            with pytest.raises(UserError, match="name a folder outside it"):
                write(translator.to_export, folder)
    assert sorted(trial.rglob("*")) == before
