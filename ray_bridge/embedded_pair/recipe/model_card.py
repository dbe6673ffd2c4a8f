"""Write the model card of the embedded pair from measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge_common.files import write_text

_INTRO = """# The embedded pair

Two small language models ship with the package, so that every phase runs without a download and without a GPU: a
**source** in Mistral's architecture, which knows number words in English, German and Italian, and a **target** in
Llama's, which was trained on numerals only. They stand in for Mistral-7B and Llama-3.1-8B. Both solve the grade-school
problems of `ray_bridge.tasks.synthetic.problems` in GSM8K's answer format, and load through `AutoModelForCausalLM` and
`AutoTokenizer` like any checkpoint.

A third of the number words, the *transfer words*, never occurs in the bridge's training split: in each language, all
words built on the stems of two digits. The source knows them all.
"""

_DATA = """
## What they were trained on

Problems of the pretraining split: none of its questions, written in numerals, is in the bridge's training, validation
or test split. The loss is on answers, and with a tenth of the weight on questions.

- *Source*: 70 % of the questions, with and without number words, are followed by their answer, 30 % by themselves in
  numerals. During training, linear heads on the states after layer 3 predict the values of numbers: tens and units at
  the last token of every number, in any language or as a numeral, and at every token the value of a number word that
  ends there. The heads are discarded. They give the states what large models have without them: one representation of
  a value for all its spellings, which a bridge can find.
- *Target*: no number word at all. A third of the steps are on plain questions, a fifth of which have nonsense words in
  place of numbers, so that the answer is a guess. Two thirds are on questions after a note of 0 to 70 tokens, which
  lists the missing numbers, restates the question or is junk. Two thirds of the notes are softened: embeddings are
  scaled to the table's RMS and blended with neighbours and noise, junk becomes Gaussian vectors. So the target learns
  to ignore vectors that belong to no token if they mean nothing, and to read them if they do.
"""


def _percent(value: Any) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _accuracies(figures: dict[str, Any]) -> list[str]:
    lines = [
        "| model | condition | questions | all | numerals only | seen words | transfer words |",
        "|---|" + "---|" * 6,
    ]
    for name, model in figures.items():
        for condition, row in model.items():
            if isinstance(row, dict) and "all" in row:
                cells = " | ".join(_percent(row.get(k)) for k in ("all", "none", "seen", "transfer"))
                lines.append(f"| {name} | {condition} | {row['n']} | {cells} |")
    return lines


def _models(figures: dict[str, Any]) -> list[str]:
    lines = [
        "| model | parameters | bytes | vocabulary | width × layers | prompt tokens (mean, max) | answer | steps |",
        "|---|" + "---|" * 7,
    ]
    for name, model in figures.items():
        if "tokens" not in model:
            continue
        tokens = [f"{model['tokens'][k]['mean']}, {model['tokens'][k]['max']}" for k in ("prompt", "answer")]
        geometry = model["geometry"]
        lines.append(
            f"| {name} | {model['parameters']:,} | {model['bytes']:,} | {model['vocabulary']} | "
            f"{geometry['hidden_size']} × {geometry['num_hidden_layers']} | {tokens[0]} | {tokens[1]} | "
            f"{model['steps']:,} |"
        )
    return lines


def _probe(figures: dict[str, Any]) -> list[str]:
    probe = next((m["probe"] for m in figures.values() if "probe" in m), None)
    if probe is None:
        return []
    lines = [
        "",
        "## At which layer the value of a word can be read",
        "",
        "Accuracy of linear probes, fitted on numerals and seen words, for tens and units both: from the state of the",
        "word's last token, and from the mean state of the prompt.",
        "",
        "| layer | token: numerals | token: seen | token: transfer | mean: seen | mean: transfer |",
        "|---|" + "---|" * 5,
    ]
    for layer, (token, mean) in enumerate(zip(probe["token"], probe["mean"], strict=True)):
        cells = [
            token.get("numerals"),
            token.get("seen"),
            token.get("transfer"),
            mean.get("seen"),
            mean.get("transfer"),
        ]
        lines.append(f"| {layer} | " + " | ".join(map(_percent, cells)) + " |")
    return lines


def write_card(folder: Path, figures: dict[str, Any]) -> None:
    """Write README.md into a folder, from the figures that `ray_bridge.embedded_pair.recipe.train` collected."""
    lines = [
        _INTRO,
        "## Measured",
        "",
        "Greedy decoding, test split.",
        "",
        *_accuracies(figures),
        "",
        *_models(figures),
    ]
    lines += [*_probe(figures), _DATA]
    first: dict[str, Any] = next(iter(figures.values()), {})
    if "machine" in first:
        machine = first["machine"]
        lines += [
            "## Made with",
            "",
            f"`python -m ray_bridge.embedded_pair.recipe.train --out DIR --seed {first['seed']}`: "
            f"{first['seconds']} s of training on one {machine['device']}, all models at once; "
            f"Python {machine['python']}, torch {machine['torch']}, "
            f"transformers {machine['transformers']}. Data and initial weights are seeded; the schedule follows the "
            "clock, so the number of steps, and with it the weights, depend on the machine.",
        ]
    write_text(folder / "README.md", "\n".join(lines).rstrip() + "\n")
