"""Commands that use a trained translator: ask it, export it, and verify what was exported."""

import json
import sys
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge_common.errors import UserError
from bridge_common.shown_names import condition_name
from bridge_common.user_files import lines_of, open_file
from bridge_common.visible_text import visible
from cluster.cli.checks import FILE, FOLDER, NumberType, require_meaning, require_writable
from ray_bridge.config.plugins import check_plugin_name
from ray_bridge.inference.places import HOTTEST, check_question_text, check_unicode, folder_of

if TYPE_CHECKING:
    from ray_bridge import Translator
    from ray_bridge.inference.answers import Answer, Question

HEAT = NumberType(min=0, max=HOTTEST)
device_option = click.option("--device", help="cpu, cuda, cuda:1, ...  [default: a GPU if there is one]")
source_option = click.option("--source", help="the source, if it lies elsewhere than at training: folder or hub name")
target_option = click.option("--target", help="the same for the target")
trust_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    help="a module that an exported folder or hub repository names and may import; repeatable",
)


@click.command()
@click.argument("run")
@click.argument("question", required=False)
@click.option("--file", type=FILE, help="JSONL of questions: objects with question and, if you like, id")
@click.option("--compare", is_flag=True, help="answer under every condition: baselines and controls beside the bridge")
@click.option("--temperature", type=HEAT, default=0.0, help="0 decodes greedily; above, answers are sampled")
@click.option("--seed", default=0, help="of the sampling")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="most tokens of an answer  [default: the job's]")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a question")
@device_option
@source_option
@target_option
@trust_option
def translate(
    run: str,
    question: str | None,
    file: Path | None,
    compare: bool,
    temperature: float,
    seed: int,
    max_new_tokens: int | None,
    as_json: bool,
    device: str | None,
    source: str | None,
    target: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Answer a question with a trained translator.

    RUN is a trial's folder (STORAGE/CAMPAIGN/trials/NAME), an exported folder or bundle, or a name on the hub.
    """
    if (question is None) == (file is None):
        raise UserError('give one question, as in translate RUN "How many ...", or a file of them by --file')
    if compare and (temperature > 0 or max_new_tokens is not None):
        raise UserError("--compare decodes as the evaluation did: leave out --temperature and --max-new-tokens")
    require_meaning("--seed", temperature > 0, "with a --temperature above 0; greedy answers draw nothing")
    if question is not None:
        check_question_text(question)
    questions = [("", question)] if question is not None else read_questions(file) if file is not None else []
    translator = load(run, device, source, target, plugins)
    settings: dict[str, Any] = {"temperature": temperature, "seed": seed}
    if max_new_tokens is not None:
        settings["max_new_tokens"] = max_new_tokens
    if file is not None:  # none of its questions is refused after others were answered
        for number, (_, text) in enumerate(questions, 1):
            try:
                translator.prompt_tokens(text, max_new_tokens)
            except UserError as error:
                raise UserError(f"{file}, question {number}: {error}") from error
    if question is not None and not (compare or as_json):
        for piece in translator.stream(question, **settings):
            print(visible(piece), end="", flush=True)
        print()
        return
    for name, text, answers in _answers(translator, questions, compare, settings):
        if as_json or file is not None:
            row = {"id": name} if name else {}
            print(json.dumps(row | {"question": text, **answer_record(answers)}, ensure_ascii=False), flush=True)
        else:
            print("\n".join(_beside(answers)), flush=True)


def _answers(
    translator: "Translator", questions: list[tuple[str, str]], compare: bool, settings: dict[str, Any]
) -> Iterator[tuple[str, str, "Answer | dict[str, Answer]"]]:
    asked: list[Question] = [translator.question(text, name or None) for name, text in questions]
    if compare:
        for (name, text), one in zip(questions, asked, strict=True):
            yield name, text, translator.compare(one)
        return
    size = 32
    for at in range(0, len(asked), size):  # answers appear as their batch is done
        batch = translator.generate(asked[at : at + size], **settings)
        for (name, text), answer in zip(questions[at : at + size], batch, strict=True):
            yield name, text, answer


def answer_record(answers: "Answer | dict[str, Answer]") -> dict[str, Any]:
    """Return what is printed of one question's answer, or of its answers by condition."""
    if isinstance(answers, dict):
        return {condition: answer_record(answer) for condition, answer in answers.items()}
    return {
        "answer": answers.text,
        "final": answers.final,
        "tokens": answers.tokens,
        "truncated": answers.truncated,
    }


def _beside(answers: "Answer | dict[str, Answer]") -> Iterator[str]:
    if not isinstance(answers, dict):
        yield visible(answers.text.strip())
        return
    for condition, answer in answers.items():
        yield f"{condition_name(condition)} ({answer.tokens} tokens, {1000 * answer.seconds:.0f} ms):"
        yield from (f"    {visible(line)}" for line in answer.text.strip().splitlines())


def read_questions(file: Path) -> list[tuple[str, str]]:
    """Read the ids, empty if there are none, and the questions of a JSONL file.

    Raises:
        UserError: if the file or one of its lines cannot be used; the message names the line.
    """
    questions = []
    with open_file(file, pipe=True) as opened:
        lines = list(lines_of(opened, file))  # which end in LF alone: U+2028 and others may stand within a text
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}: no JSON ({error})") from error
        text = row.get("question") if isinstance(row, dict) else row
        if not isinstance(text, str) or not text.strip():
            raise UserError(f'{file}, line {number}: give {{"question": "..."}}, or a text in quotes')
        name = row.get("id") if isinstance(row, dict) else None
        no_number = isinstance(name, bool) or (isinstance(name, float) and not isfinite(name))
        if not isinstance(name, str | int | float | None) or no_number:
            raise UserError(f"{file}, line {number}: the id is neither a text nor a number")
        try:
            check_question_text(text)
            check_unicode("the id", str(name))
        except UserError as error:
            raise UserError(f"{file}, line {number}: {error}") from error
        questions.append(("" if name is None else str(name), text))
    if not questions:
        raise UserError(f"{file} has no questions")
    return questions


@click.command()
@click.argument("run")
@click.argument("folder", type=FOLDER)
@click.option(
    "--bundle", is_flag=True, help="add spec, plan, samples, events and environment, so that others can check"
)
@click.option("--overwrite", is_flag=True, help="replace what an earlier export wrote into the folder")
@device_option
@source_option
@target_option
@trust_option
def export(
    run: str,
    folder: Path,
    bundle: bool,
    overwrite: bool,
    device: str | None,
    source: str | None,
    target: str | None,
    plugins: tuple[str, ...],
) -> None:
    """Export a trained translator: weights, config, and a model card filled from the record.

    Both frozen models are loaded once, to write down which ones they are.
    """
    from ray_bridge.inference.bundle import check_finished, write_bundle
    from ray_bridge.inference.export import check_no_trial, write_export
    from ray_bridge.inference.saved import AT_TRAINING, is_export

    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: name a folder")
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise UserError(f"{folder} is not empty: name another folder, or add --overwrite")
        if not is_export(folder):
            raise UserError(f"{folder} holds no earlier export: --overwrite does not apply, name another folder")
    check_no_trial(folder)
    require_writable(next(place for place in (folder, *folder.absolute().parents) if place.is_dir()), "FOLDER")
    if bundle and (place := folder_of(run)) is not None:
        check_finished(place)
    translator = load(run, device, source, target, plugins)
    (write_bundle if bundle else write_export)(translator.to_export, folder)
    if translator.saved.recorded_at != AT_TRAINING:
        print(
            "note: the digests of source and target were not recorded at training; computed now, of the loaded models",
            file=sys.stderr,
        )
    for path in sorted(folder.iterdir()):
        print(path)


@click.command()
@click.argument("bundle")
@click.option("--items", type=click.IntRange(min=1), default=50, help="test items to decode again")
@device_option
@source_option
@target_option
@trust_option
def verify(
    bundle: str, items: int, device: str | None, source: str | None, target: str | None, plugins: tuple[str, ...]
) -> int:
    """Decode test items of a bundle again and say which of the recorded answers come out.

    Also scores all recorded answers again and compares them with the accuracies reported. Exits with 1 if anything
    differs; answers may differ in text, not in verdict, unless evaluation runs in float64.

    BUNDLE is what `export --bundle` wrote, or a finished trial's folder.
    """
    from ray_bridge.inference.bundle import check_recorded
    from ray_bridge.inference.bundle import verify as decode_again

    if (place := folder_of(bundle)) is not None:
        check_recorded(place)
    result = decode_again(load(bundle, device, source, target, plugins), items)
    print(
        f"{result.same} of {result.items} recorded answers came out byte for byte, "
        f"{result.same_score} with the recorded verdict"
    )
    if result.differing:
        print(f"other answers, by id: {', '.join(result.differing)}")
    if result.other_verdicts:
        print(f"of them with another verdict: {', '.join(result.other_verdicts)}")
    for problem in result.problems:
        print(problem)
    return 0 if result.passed else 1


def load(
    run: str, device: str | None, source: str | None, target: str | None, plugins: tuple[str, ...]
) -> "Translator":
    """Load a translator as the command line names it, without transformers' notes.

    Raises:
        UserError: if it or one of its models cannot be loaded.
    """
    for module in plugins:
        check_plugin_name(module)
    folder_of(run)  # refused before torch is loaded
    from transformers.utils.logging import set_verbosity_error

    from ray_bridge import Translator

    set_verbosity_error()
    return Translator.load(run, device=device, source=source, target=target, plugins=plugins)


COMMANDS = (translate, export, verify)
