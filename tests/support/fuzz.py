"""Fuzz what reads foreign bytes, guided by coverage: `make fuzz`.

    python -m tests.support.fuzz [TARGET ...] [--seconds 300] [--out build/fuzz]

Each target takes bytes and raises nothing but what it may raise for wrong input. atheris (`ray-bridge[fuzz]`) changes
the bytes so that they reach further lines. What it found stays in OUT/TARGET for the next time. A failure is in
OUT/TARGET-crash-HASH; it becomes a case of `tests/test_fuzzing.py`, which runs the targets without atheris, too.
"""

import argparse
import atexit
import contextlib
import functools
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

PACKAGES = ("bridge_common", "ray_bridge", "tune_spaces", "cluster")
LONGEST = 8192
HANGS_S = 20
"""Bytes of an input, and after how many seconds one counts as a failure."""


def fuzz_settings(data: bytes) -> None:
    """Make the specs of lines of `--set` and of `--seeds`: a spec, or one line."""
    from bridge_common.errors import UserError
    from cluster.cli.options import parse_seeds, parse_settings
    from ray_bridge.config.presets import preset, split_settings
    from ray_bridge.config.run_spec import check_run

    seeds, *pairs = data.decode(errors="replace").split("\n")

    def make_specs() -> None:
        check_run(*preset("tiny", *split_settings(parse_settings(tuple(pairs)))))

    for make in (lambda: parse_seeds(seeds), make_specs):
        with contextlib.suppress(UserError):
            make()


def fuzz_jsonl(data: bytes) -> None:
    """Read a file of rows in each of the three ways; a log has the whole rows, whatever stands between them."""
    from bridge_common import files
    from bridge_common.errors import UserError
    from ray_bridge.tasks.data.json_rows import json_lines

    path = _folder() / "rows.jsonl"
    path.write_bytes(data)
    for read in (files.read_jsonl, lambda file: list(json_lines(file))):
        with contextlib.suppress(UserError):
            read(path)
    last = {"kind": "last", "step": 1}
    rows = files.read_log(path)
    lines = data[: data.rfind(b"\n") + 1].decode(errors="replace").split("\n")
    assert rows == [row for line in lines if (row := files._last_row(line)) is not None], "a line is a row or none"
    files.append_jsonl(path, last)
    assert files.read_log(path)[-1] == last, "a row that is appended is read, whatever was there"


def fuzz_answers(data: bytes) -> None:
    """Read the answer of a text in each of the ways that scorers have."""
    from ray_bridge.tasks import scoring
    from ray_bridge.tasks.latex import appearance, boxes, choice_letters, environments

    text, _, gold = data.decode(errors="replace").partition("\0")
    score = scoring.score_number(text, gold)
    assert score.valid or not score.correct
    if (number := scoring.last_number(text)) is not None:
        assert scoring.normalise_number(number) == number, "a number in its form is that of its form"
    scoring.cut(text, ("\n", gold) if gold else ("\n",))
    boxes.boxed_answer(text)
    choice_letters.choice(text)
    environments.without_environments(appearance.without_appearance(text))


def fuzz_alignment(data: bytes) -> None:
    """Align a text's tokens of the embedded pair: each row is a mean, and no byte is lost."""
    from tests.support.tokenising import align_tokens

    text = data.decode(errors="ignore")
    if text.strip():
        source, target = _tokenizers()
        before, after = "Question: ", "\nAnswer:"
        made = align_tokens(source, target, before + text + after, len(before), len(before + text))
        assert round(float(made.bytes.sum())) == len(text.encode())
        totals = [0.0] * len(made.tokens)
        for row, share in zip(made.row, made.share, strict=True):
            totals[row] += float(share)
        assert all(abs(total - 1) < 1e-4 for total in totals)


def fuzz_campaign(data: bytes) -> None:
    """Load and list a campaign whose `campaign.json` is these bytes."""
    _read_campaign("campaign.json", data)


def fuzz_plan(data: bytes) -> None:
    """Load and list a campaign whose `plan.json` is these bytes."""
    _read_campaign("plan.json", data)


def _read_campaign(file: str, data: bytes) -> None:
    from bridge_common.errors import UserError
    from tune_spaces.campaign import Campaign

    storage, contents = _campaign()
    for name, content in {**contents, file: data}.items():
        (storage / "demo" / name).write_bytes(content)
    with contextlib.suppress(UserError):
        campaign = Campaign.load(storage, "demo")
        campaign.specs()
        campaign.policy().wanted()


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _tokenizers() -> tuple[Any, Any]:
    from transformers import PreTrainedTokenizerFast

    from ray_bridge.config.checkpoint_names import EMBEDDED

    source, target = (PreTrainedTokenizerFast.from_pretrained(EMBEDDED[side]) for side in ("source", "target"))
    return source, target


@functools.cache
def _campaign() -> tuple[Path, dict[str, bytes]]:
    """Make a campaign that has ended; return its storage and the files that are changed."""
    from tests.support.card_campaigns import make_ended

    storage = _folder() / "storage"
    make_ended(storage, "demo", items=6, seeds=(0,), sizes=(8,))
    return storage, {name: (storage / "demo" / name).read_bytes() for name in ("campaign.json", "plan.json")}


TARGETS: dict[str, Callable[[bytes], None]] = {
    "settings": fuzz_settings,
    "jsonl": fuzz_jsonl,
    "answers": fuzz_answers,
    "alignment": fuzz_alignment,
    "campaign": fuzz_campaign,
    "plan": fuzz_plan,
}


def seeds(target: str) -> list[bytes]:
    """Return inputs of a target to begin with."""
    if target in ("campaign", "plan"):
        content = _campaign()[1][f"{target}.json"]
        return [content, json.dumps(json.loads(content)).encode()]
    texts = {
        "settings": [
            "0,1\nsteps=3\nlearning_rate=1e-3\nsoft_tokens=8",
            '7\nstops=["a"]\nadapter_layers=1,2\ntask=gsm8k',
        ],
        "jsonl": ['{"kind": "metrics", "step": 1}\n{"kind"', '{"question": "é", "answer": "1"}\n\n[1]\n'],
        "answers": [
            "so #### $1,000.50\n\x001000.5",
            r"\boxed{\frac{1}{2}} or (B)\begin{cases} x \end{cases}" + "\x00B",
        ],
        "alignment": ["1,234 – 東 😀\n", "é e\u0301  two  spaces"],
    }
    return [text.encode() for text in texts[target]]


def run_target(target: str, seconds: float, out: Path) -> int:
    """Fuzz a target in this process, which atheris ends: with 0 after its time, with another code at a failure."""
    import atheris

    corpus = out / target
    corpus.mkdir(parents=True, exist_ok=True)
    with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=list(PACKAGES)):
        TARGETS[target](b"")  # imports what it needs; what is imported later is not followed
        inputs = seeds(target)
    for number, content in enumerate(inputs):
        (corpus / f"seed-{number}").write_bytes(content)

    def quiet(data: bytes) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # notes on fields that change nothing
            TARGETS[target](data)

    options = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={LONGEST}", f"-timeout={HANGS_S}"]
    options += [f"-artifact_prefix={out / target}-", "-rss_limit_mb=4096", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], quiet)
    atheris.Fuzz()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Fuzz the named targets, or all, each in a process of its own; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=300, help="of all targets together")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    targets = asked.targets or list(TARGETS)
    if unknown := [name for name in targets if name not in TARGETS]:
        parser.error(f"unknown target {unknown[0]}: there are {', '.join(TARGETS)}")
    if asked.here:
        return run_target(targets[0], asked.seconds, asked.out)
    failed = []
    for target in targets:
        own = [target, "--here", "--seconds", str(asked.seconds / len(targets)), "--out", str(asked.out)]
        print(f"{target} …", flush=True)
        if subprocess.run([sys.executable, "-m", "tests.support.fuzz", *own], check=False).returncode:
            failed.append(target)
    print(f"failed: {', '.join(failed)}; their bytes are in {asked.out}" if failed else "nothing found")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
