"""The model card of the embedded pair, written from measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bridge_common.files import write_text

_INTRO = """# The embedded pair

Two small language models that ship with the package, so that every phase runs without download and GPU: a
**source** in Mistral's architecture, which knows number words in English, German and Italian, and a **target** in
Llama's, which has only ever met numerals. They stand in for Mistral-7B and Llama-3.1-8B; both solve grade-school
problems of `ray_bridge.tasks.synthetic.problems` in GSM8K's answer format, and load through `AutoModelForCausalLM` and
`AutoTokenizer` like any checkpoint.

A third of the words is withheld from the *bridge's* training split (transfer words: in each language all words on
the stems of two digits). The source knows them all.
"""

_DATA = """
## What they were trained on

Problems of the pretraining split (no question, read in numerals, is in the bridge's training, validation or test
split). The loss is on answers, with a tenth of the weight on questions.

- *Source*: 70 % questions with and without number words, answered; 30 % restated in numerals. During training,
  linear heads after layer 3 read the values of numbers off the states: tens and units at the last token of every
  number, whichever language or numeral writes it, and, at every token, the value of a number word that ends there.
  The heads are thrown away. They give states what large models have by themselves: one code of value for all
  spellings, which a bridge can find.
- *Target*: never a number word. A third of the steps on plain questions, a fifth of which hold random unreadable
  words in place of numbers (the answer is then a guess); two thirds on questions behind a note of 0 to 70 tokens that
  lists the missing numbers, restates the question or is junk. Two thirds of the notes are softened: scaled to the
  embeddings' RMS, blended with neighbours and noise, junk as Gaussian vectors, so that vectors that are no token's
  neither disturb it nor escape it.
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
        "## Where the source holds a word's value",
        "",
        "Linear probes, fitted on numerals and seen words: tens and units both right at the word's last token, and",
        "from the mean state of the prompt.",
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
    """Writes README.md in a folder from the figures that `ray_bridge.embedded_pair.recipe.train` collected."""
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
            "clock, so the number of steps, and with it the weights, are the machine's.",
        ]
    write_text(folder / "README.md", "\n".join(lines).rstrip() + "\n")
