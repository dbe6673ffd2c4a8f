"""Every command that README.md names, and what a test adds to it or puts in its place so that it runs in miniature.

`{place}` is the folder from which commands are started, `{root}` the checkout, `{trial}` and `{other}` the folders of
two trained trials, `{new}` the name of no campaign, `{out}` a folder for what a command writes, `{bundle}` an exported
bundle, and `{pair}` a folder with two small checkpoints.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "python -m cluster "


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one command of the README is tried.

    Attributes:
        add: words after the command.
        instead: what stands in the place of some of its words.
        prints: text that its output has.
        before: the command to which the README's options are added, where it shows options alone.
        run_by: the test, `FILE::NAME`, that runs it in full; it is not run a second time.
        why: why it is changed or run by another test, where that is not a matter of size.
    """

    add: str = ""
    instead: dict[str, str] = field(default_factory=dict)
    prints: str = ""
    before: str = ""
    run_by: str = ""
    why: str = ""


SIZES = (
    "--set steps=2 --set warmup_steps=1 --set eval_every=2 --set batch_size=4 --set decode_questions=2 "
    "--set decode_samples=2 --set hidden_size=16 --set num_heads=2 --set depth=1 --set num_fewshot=2 "
    "--set max_new_tokens=8 --set train_examples=40 --set validation_examples=2 --set test_examples=6 "
    "--set workers=1 --set eval_dtype=as_trained"
)
FEW_ROWS = "--set train_examples=none --set test_examples=none --set validation_examples=1 --set num_fewshot=1"
DATA = "{root}/tests/data/mapped"
TINY = {"paper": "tiny"}
NO_GPU = "the preset paper wants 4 GPUs and two checkpoints of the hub; tiny has everything on this machine"
MADE = "sets up an environment from a package index: `make -n` prints what it would run"
PLANNED = "many trials: they are planned here"
TRAINED = Row(
    add=f"{SIZES} --skip-preflight --job tests.support.local_jobs:in_the_trials_process",
    prints="gate: ",
    why="Ray Train starts six processes a trial; tests/integration/test_any_pair.py has it",
)
JOBS = "tests/integration/test_ray_job.py::test_a_job_sees_its_code_and_variables_and_nothing_else"
PAIR = "--source {pair}/source --target {pair}/target"
PLAN = "plan phase1 --name {new} "

ROWS: dict[str, Row] = {
    "make phase1": Row(instead={"make": "make -n"}, prints="python -m cluster phase1 --preset tiny", why=MADE),
    "make test": Row(instead={"make": "make -n"}, prints="python -m pytest -n 3", why=MADE),
    "make fast": Row(instead={"make": "make -n"}, prints='python -m pytest -n 3 -m "not slow"', why=MADE),
    "make check": Row(instead={"make": "make -n"}, prints="bin/lint-imports --no-cache", why=MADE),
    "make docs": Row(instead={"make": "make -n"}, prints="bin/mkdocs build --strict -q -d build/site", why=MADE),
    "make audit": Row(instead={"make": "make -n"}, prints="tests.support.audit", why=MADE),
    "make real": Row(instead={"make": "make -n"}, prints="python -m tests.support.real_model", why=MADE),
    "make services": Row(instead={"make": "make -n"}, prints="apt-get install", why="needs root and Debian's mirrors"),
    "make setup CONSTRAINTS=constraints-cuda.txt": Row(
        instead={"make": "make -n -B"}, prints="-c constraints-cuda.txt torch", why=MADE
    ),
    "python -m cluster plan phase1 --preset paper": Row(
        instead=TINY, add="--name {new}", prints="frozen in", why=NO_GPU
    ),
    "python -m cluster preflight --preset paper": Row(
        instead=TINY, add="--set workers=1", prints="storage", why=NO_GPU
    ),
    "ray job submit --working-dir . -- python -m cluster phase1 --preset paper --storage DIR": Row(
        run_by="tests/integration/test_ray_job.py::test_rays_own_client_and_ours_report_a_wrong_request"
    ),
    "python -m cluster submit phase1 --preset paper --storage DIR --address http://HEAD:8265": Row(
        run_by="tests/integration/test_ray_job.py::test_rays_own_client_and_ours_report_a_wrong_request"
    ),
    "python -m cluster launch slurm phase1 --preset paper --submit": Row(
        instead={"--submit": "--print"},
        prints="#SBATCH --nodes=1",
        why="tests/integration/test_slurm.py submits such a script to a real Slurm",
    ),
    "python -m cluster phase1 --preset paper --source DIR --target DIR --set source_layer=N --data DIR": Row(
        run_by="tests/integration/test_any_pair.py::test_gpt_neox_to_qwen2_on_gsm8k_runs_through"
    ),
    "--task arc_challenge": Row(before=PLAN, add=f"--data {DATA}/arc_challenge {FEW_ROWS}", prints="frozen in"),
    "--task FILE.toml": Row(
        before=PLAN,
        instead={"FILE.toml": "{root}/ray_bridge/config/task_mappings/openbookqa.toml"},
        add=f"--data {DATA}/openbookqa {FEW_ROWS}",
        prints="frozen in",
    ),
    "python -m cluster score FILE --task gsm8k": Row(
        instead={"FILE": "outputs.jsonl"}, prints="2 outputs, scored as gsm8k"
    ),
    "python -m cluster phase2 --preset paper": Row(
        instead={"phase2": "plan phase2"},
        prints="hybrid-adapter",
        why="tests/integration/test_every_variant.py runs every variant of phases 2 and 3",
    ),
    "python -m cluster phase3 --preset paper": Row(
        instead={"phase3": "space phase3"}, prints="hotpotqa", why="as phase2; data of three tasks are on the hub"
    ),
    "python -m cluster ablate --design leave-one-out --design add-one-in --seeds 0,1,2 --controls": Row(
        instead={"ablate": "plan ablate"}, prints="random_source", why=PLANNED
    ),
    "python -m cluster ablate --plugin MODULE --task MODULE:CLASS --set bridge=MODULE:CLASS": Row(
        run_by="tests/integration/test_plugins.py::test_a_task_a_bridge_and_a_toggle_of_ones_own"
    ),
    "python -m cluster ablate --campaign MODULE:FUNCTION": Row(
        instead={"ablate": "plan ablate", "MODULE:FUNCTION": "tune_spaces.design.phases:phase1"},
        add="--name {new}",
        prints="frozen in",
        why=PLANNED,
    ),
    "--parallel auto": Row(before="resume ", prints="gate: ", why="of a campaign that has finished"),
    "--resident": Row(run_by="tests/cluster/cli/test_request.py::test_resident_is_a_field_of_the_run"),
    "--until 18:30": Row(before="resume ", prints="gate: ", why="of a campaign that has finished"),
    "--max-gpu-hours 40": Row(
        run_by="tests/integration/test_limits.py::test_gpu_hours_end_a_campaign_and_a_higher_limit_continues_it"
    ),
    "--notify URL": Row(run_by="tests/integration/test_notices.py::test_a_decision_a_failure_and_the_end_arrive"),
    "python -m cluster sweep --over soft_tokens=64,128 --over learning_rate=log:1e-5:1e-3 --search optuna "
    "--stop-early asha": Row(
        run_by="tests/integration/test_sweep.py::test_a_killed_driver_forgets_neither_rungs_nor_proposals"
    ),
    "python -m cluster resume": Row(prints="gate: "),
    "python -m cluster status --watch": Row(prints="nobody runs it"),
    "python -m cluster stop": Row(prints="is not running"),
    "python -m cluster jobs list": Row(run_by=JOBS),
    "python -m cluster jobs follow": Row(run_by=JOBS),
    "python -m cluster jobs stop": Row(run_by=JOBS),
    "python -m cluster ui": Row(
        run_by="tests/integration/test_mlflow_pages.py::test_a_campaign_opens_on_its_runs_with_settings_and_accuracies"
    ),
    "python -m cluster compare": Row(prints="/#/compare-runs?runs="),
    "python -m cluster results --format csv": Row(prints="results.csv"),
    "python -m cluster card": Row(prints="card.html"),
    "python -m cluster appendix": Row(prints="appendix.md"),
    "python -m cluster appendix --samples full=F --samples B=G --json": Row(
        instead={"full=F": "full={trial}/samples.jsonl", "B=G": "B={other}/samples.jsonl"}, prints='"accuracy"'
    ),
    "python -m cluster report": Row(prints=""),
    "python -m cluster fields": Row(prints="soft_tokens"),
    "python -m cluster toggles": Row(prints="projection"),
    "python -m cluster tasks": Row(prints="gsm8k"),
    "python -m cluster bridges": Row(prints="resampler"),
    'python -m cluster translate RUN "Tom has ..." --compare': Row(instead={"RUN": "{trial}"}, prints="target alone"),
    "python -m cluster serve RUN": Row(
        run_by="tests/integration/test_serving.py::test_the_public_client_gets_the_translators_answers"
    ),
    "python -m cluster export RUN DIR --bundle": Row(instead={"RUN": "{trial}", "DIR": "{out}/bundle"}),
    "python -m cluster verify DIR": Row(instead={"DIR": "{bundle}"}, prints="6 of 6"),
    "python -m cluster diagnose RUN": Row(instead={"RUN": "{trial}"}, add="--count 1", prints="attention"),
    "python -m cluster benchmark RUN": Row(instead={"RUN": "{trial}"}, add="--items 2", prints="bridged"),
    "python -m cluster archive LOGS": Row(instead={"LOGS": "old.log"}, prints="archive"),
    "--help": Row(before="phase1 ", prints="Usage: "),
    "--preset tiny|paper": Row(before=PLAN, instead={"tiny|paper": "tiny"}, prints="frozen in"),
    "--set field=value": Row(before=PLAN, instead={"field=value": "soft_tokens=8"}, prints="frozen in"),
    "--force": Row(
        before="plan phase2 --name {new} ", prints="frozen in", why="tests/tune_spaces/test_campaign.py forces phases"
    ),
    "--gate confident": Row(before=PLAN, prints="while the gate is uncertain: "),
    "--set prompt_format=chat": Row(before=PLAN, add=PAIR, prints="frozen in", why="the embedded pair has no template"),
    "--set target_shards=4": Row(
        before=PLAN,
        instead={"target_shards=4": "target_shards=2"},
        add=f"--set workers=2 {PAIR}",
        prints="frozen in",
        why="the embedded target has one head, and this one two",
    ),
}


def shown(page: str, commands: "dict[str, click.Command]") -> Iterator[str]:
    """Yield each command and each option that a page shows, once, as it is written; a command in full.

    Args:
        page: the page's text. Lines of its code blocks that name no language are commands, and so are spans of code
            that begin with `python -m`, `make`, `ray job`, a command's name, or `--`.
        commands: those of the program, by name.
    """
    blocks = re.findall(r"^```\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    outside = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]
    named = [_in_full(span, commands) for span in spans]
    yield from dict.fromkeys(filter(None, [*lines, *named]))


def _in_full(span: str, commands: "dict[str, click.Command]") -> str:
    first = span.split(maxsplit=1)[0]
    if span.startswith((PROGRAM, "make ", "ray job ", "--")):
        return span
    return PROGRAM + span if first in commands else ""
