"""Write the model card of an exported translator from what its trial recorded."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from bridge_common.metric_names import CONDITIONS, GAIN, N, accuracy, accuracy_high, accuracy_low
from bridge_common.trial_files import GIT_COMMIT, GIT_DIRTY
from ray_bridge.inference.saved import AT_TRAINING, RECORDED_AT

MEANINGS = {
    "bridged": "target with this translator's soft tokens",
    "target_alone": "target with the text alone",
    "source_alone": "source with the text alone",
    "text_bridge": "target with the source's written answer in its prompt",
    "shuffled_soft": "control: another question's soft tokens",
    "random_soft": "control: noise of the same size",
}


def model_card(config: Mapping[str, Any]) -> str:
    """Return the card, Markdown after the hub's metadata.

    Args:
        config: as `export_config` returns it.
    """
    spec, record = config["spec"], config["record"]
    source, target = short_name(spec["source"]), short_name(spec["target"])
    lines = [
        "---",
        "library_name: ray_bridge",
        "tags: [cross-model-translator, soft-prompt]",
        "---",
        "",
        f"# {source} → {target}",
        "",
        f"A translator: the frozen {source} reads a question, a trained bridge ({spec['bridge']}) turns its hidden "
        f"states into {spec['soft_tokens']} soft tokens, and the frozen {target} answers. Only the bridge is in this "
        "repository.",
        "",
        "```python",
        "from ray_bridge import Translator",
        "",
        'print(Translator.load("PLACE OF THIS FOLDER").generate("A question"))',
        "```",
        "",
        *_results(record.get("metrics", {})),
        "## Training",
        "",
        *_training(spec, record),
        "",
        "## Models",
        "",
        "It works between these two models only. Loading compares their weights and tokenizers with these digests, "
        + (
            "recorded at training."
            if config[RECORDED_AT] == AT_TRAINING
            else "which were not recorded at training, but computed at the export."
        ),
        "",
        "| | name | revision | layer | weights | tokenizer |",
        "|---|---|---|---|---|---|",
        *[_model_row(role, spec, config["models"][role]) for role in ("source", "target")],
        "",
        "## Licence",
        "",
        "Not stated: whoever publishes this translator chooses one that both models' licences allow.",
        "",
    ]
    return "\n".join(lines)


def short_name(model: str) -> str:
    """Return a model's name without the folders in which it lay: a published card names no paths of a machine."""
    return PurePath(model).name if PurePath(model).is_absolute() or model.startswith((".", "~")) else model


def _results(metrics: Mapping[str, float]) -> list[str]:
    names = [name for name in CONDITIONS if accuracy(name) in metrics]
    if not names:
        return []
    rows = [
        f"| {name} | {MEANINGS[name]} | {100 * metrics[accuracy(name)]:.1f} % "
        f"[{100 * metrics[accuracy_low(name)]:.1f}, {100 * metrics[accuracy_high(name)]:.1f}] |"
        for name in names
    ]
    gain = f", gain over target alone {100 * metrics[GAIN]:+.1f} points" if GAIN in metrics else ""
    return [
        "## Results",
        "",
        f"{int(metrics[N])} test items{gain}. In brackets: 95 % Wilson intervals.",
        "",
        "| condition | what answers | accuracy |",
        "|---|---|---|",
        *rows,
        "",
    ]


def _training(spec: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    facts = record.get("environment", {})
    seconds = record.get("training_seconds")
    cost = "" if seconds is None else f", {seconds:.0f} s on {record.get('workers', 1)} worker(s)"
    gpu = f" with {facts['gpu']}" if facts.get("gpu", "none") != "none" else ""
    lines = [
        f"- task: {spec['task']}, {spec['num_fewshot']} few-shot examples, layout {spec['layout']}",
        f"- data: {_data(spec)}",
        f"- {spec['steps']} steps of {spec['batch_size']} examples{cost}{gpu}; step {record.get('selected_step', '?')} "
        "was best on the validation examples",
        f"- seed {spec['seed']}, variant {record.get('variant', '?')}, fingerprint {record.get('fingerprint', '?')}",
    ]
    if commit := facts.get(GIT_COMMIT):
        changed = ", with changes that were not committed" if facts.get(GIT_DIRTY) == "True" else ""
        lines.append(f"- commit {commit}{changed}")
    if versions := [f"{name} {facts[name]}" for name in ("python", "torch", "transformers") if name in facts]:
        lines.append(f"- {', '.join(versions)}")
    return lines


def _data(spec: Mapping[str, Any]) -> str:
    counts = [
        f"{spec[f'{split}_examples']:,} {split}" if spec[f"{split}_examples"] else f"all {split}"
        for split in ("train", "validation", "test")
    ]
    revision = spec.get("task_revision")
    return f"{', '.join(counts)} examples" + (f", revision {revision}" if revision else "")


def _model_row(role: str, spec: Mapping[str, Any], identity: Mapping[str, str]) -> str:
    layer = spec["source_layer"] if role == "source" else ""
    return (
        f"| {role} | {short_name(spec[role])} | {spec[f'{role}_revision'] or ''} | {layer} | "
        f"`{identity['weights']}` | `{identity['tokenizer']}` |"
    )
