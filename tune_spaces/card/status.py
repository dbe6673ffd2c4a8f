"""The sections of a card on the campaign itself: verdict and gate, what was not run, and provenance."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge_common import git
from bridge_common.trial_folder import TrialFolder
from tune_spaces.analysis.overview import overview
from tune_spaces.analysis.verdicts import points
from tune_spaces.appendix.from_campaign import Analysed
from tune_spaces.appendix.tables import percent
from tune_spaces.card.bars import gate_band
from tune_spaces.card.html import Html, items, join, tag
from tune_spaces.card.results import interval, section, star
from tune_spaces.gate.decision import STRADDLES, VERDICTS, Branch
from tune_spaces.gate.ranges import chances_in_words
from tune_spaces.records.campaign_folder import CampaignFolder

CODE = Path(__file__).resolve().parents[2]


def opening(folder: CampaignFolder, analysed: Analysed | None, problem: str) -> Html:
    """Return the head of the page: name, goal, verdict, gate, and the answers to the plan's questions."""
    record = folder.campaign() or {}
    phase = _phase(record)
    line = " · ".join(filter(None, [phase.get("name"), _day(record.get("created")), _models(record.get("base") or {})]))
    head = tag("header", tag("p", line, class_="kicker"), tag("h1", folder.path.resolve().name))
    goal = tag("p", phase["goal"], class_="goal") if phase.get("goal") else Html("")
    gate = folder.gate() or {}
    decision = (gate.get("decisions") or [{}])[-1]
    causes = _causes(folder)
    parts: list[Any] = [head, goal, _verdict(gate, decision, analysed, problem, sum(causes.values()))]
    if gate.get("failed") or analysed is None:
        parts += [tag("p", cause, class_="warning") for cause in causes]
    settings = gate.get("settings") or {}
    if {"accuracy", "low", "high"} <= set(decision) and {"passes", "attribute"} <= set(settings):
        ends = (decision["accuracy"], decision["low"], decision["high"])
        parts.append(gate_band(*ends, settings["attribute"], settings["passes"]))
    if analysed is not None:
        parts += [items(analysed.appendix.answers, "answers")]
        parts += [tag("p", _plain(note), class_="warning") for note in analysed.notes]
    return tag("div", *parts, class_="opening")


def _verdict(
    gate: Mapping[str, Any], decision: Mapping[str, Any], analysed: Analysed | None, problem: str, failed: int
) -> Html:
    if gate.get("failed"):
        return tag("p", f"Not decided: {gate['failed']} failed.", class_="verdict")
    if "accuracy" in decision and "branch" in decision:
        words = VERDICTS[Branch(decision["branch"])].format(**gate["settings"])
        ends = interval(decision["low"], decision["high"]) if {"low", "high"} <= set(decision) else ""
        runs = f", {decision['runs']} runs" if decision.get("runs", 1) > 1 else ""
        grouped = f" in {decision['clusters']:,} clusters" if decision.get("clusters") else ""
        of = f" on {decision['n']:,} items{grouped}{runs}" if decision.get("n") else ""
        text = tag(
            "p", f"{words[:1].upper()}{words[1:]}: {percent(decision['accuracy'])} % ", ends, of, class_="verdict"
        )
        boundaries = {name: gate["settings"][name] for name in ("passes", "attribute")}
        chances = chances_in_words(decision.get("probabilities") or {}, **boundaries)
        doubts = f"Uncertain: {decision.get('doubt') or STRADDLES}. " if decision.get("uncertain") else ""
        more = f"Chances of the true accuracy: {chances}." if chances else ""
        return join([text, tag("p", doubts, more, class_="note") if doubts or more else ""])
    if analysed is None:
        words = f"No result: {failed} trial{'s' * (failed > 1)} failed." if failed else f"No result yet: {problem}"
        return tag("p", words, class_="verdict")
    first = overview(analysed.appendix)[0]
    ends = interval(first.low, first.high)
    parts: list[Any] = [f"{first.variant}: {percent(first.accuracy)} % ", ends]
    if first.gain is not None:
        gain = first.gain
        parts += [
            f", {points(gain.estimate)} points over the target alone ",
            interval(gain.low, gain.high, signed=True),
        ]
        parts += [star() if gain.shown else ""]
    return tag("p", *parts, class_="verdict")


def _causes(folder: CampaignFolder) -> dict[str, int]:
    """Return why trials failed, and how many of each cause."""
    planned = [folder.trial(row["name"]) for row in (folder.plan() or {}).get("trials", ())]
    errors = [trial.error() or {} for trial in planned if trial.failed]
    return Counter(str(error.get("error", "a process died without an error of its own")) for error in errors)


def not_run(folder: CampaignFolder, analysed: Analysed | None) -> Html:
    """Return what has no result and why: trials that failed or were not needed, and effects that no run determines."""
    trials = [
        tag("li", tag("b", row["name"]), f" (seed {row.get('seed')}): {reason}")
        for row in (folder.plan() or {}).get("trials", ())
        if (reason := _reason(folder.trial(row["name"]), row))
    ]
    parts: list[Any] = [tag("h3", "Trials"), tag("ul", *trials, class_="plain")] if trials else []
    attribution = None if analysed is None else analysed.appendix.attribution
    by_reason: dict[str, list[str]] = {}
    for effect in attribution.effects if attribution else ():
        if not effect.ran:
            by_reason.setdefault(effect.reason, []).append(
                f"{' × '.join(effect.toggles)} ({effect.kind.replace('_', ' ')})"
            )
    if by_reason:
        effects = [join([tag("b", ", ".join(names)), f": {reason}"]) for reason, names in by_reason.items()]
        count = sum(map(len, by_reason.values()))
        summary = tag("summary", f"Effects that no run determines ({count})")
        parts.append(tag("details", summary, items(effects, "plain")))
    if analysed is not None and analysed.appendix.trials.apart:
        names = ", ".join(trial.name for trial in analysed.appendix.trials.apart)
        parts.append(tag("p", f"On other items, so not compared: {names}."))
    return section("not-run", "What was not run", *(parts or [tag("p", "Everything that was planned has run.")]))


def _reason(trial: TrialFolder, row: Mapping[str, Any]) -> str:
    if trial.finished:
        return ""
    if stopped := trial.stopped():
        return f"stopped early at step {stopped.get('step')}, on validation accuracy"
    if error := trial.error():
        return f"failed: {error.get('error')}"
    if trial.begun:
        return "began and has not finished"
    return f"not started{', ' + row['purpose'] if row.get('purpose') else ''}"


def provenance(folder: CampaignFolder, analysed: Analysed | None) -> Html:
    """Return where the numbers come from: models, data, starts, machines, code, and the folder with the records."""
    record, plan = folder.campaign() or {}, folder.plan() or {}
    base, starts = record.get("base") or {}, record.get("starts") or []
    request = record.get("request") or {}
    code = git.code_facts(CODE)
    settings = ", ".join(f"{name}={value}" for name, value in (request.get("settings") or {}).items())
    facts = [
        ("source", _versioned(base, "source")),
        ("target", _versioned(base, "target")),
        ("task", _versioned(base, "task")),
        ("preset", request.get("preset")),
        ("settings", settings),
        ("seeds", ", ".join(map(str, record.get("seeds", ())))),
        ("plan frozen", _time(plan.get("frozen"))),
        ("starts", "; ".join(f"{_time(start.get('time'))} on {start.get('host')}" for start in starts)),
        ("GPUs", _gpus(analysed)),
        ("preflight", "; ".join(request.get("preflight") or ())),
        ("started although", "a required phase had not passed (--force)" if record.get("forced") else None),
        ("code of this page", _code(code)),
        ("records", str(folder.path.resolve())),
    ]
    rows = [join([tag("dt", name), tag("dd", value)]) for name, value in facts if value]
    return section("provenance", "Provenance", tag("dl", *rows))


def _phase(record: Mapping[str, Any]) -> dict[str, Any]:
    phase = record.get("phase") or {}
    return phase if isinstance(phase, dict) else {"name": str(phase)}


def _models(base: Mapping[str, Any]) -> str:
    return f"{base['source']} → {base['target']}, {base.get('task')}" if {"source", "target"} <= set(base) else ""


def _versioned(base: Mapping[str, Any], name: str) -> str | None:
    revision = base.get(f"{name}_revision")
    return f"{base[name]} at {revision}" if base.get(name) and revision else base.get(name)


def _gpus(analysed: Analysed | None) -> str:
    if analysed is None or "gpu" not in analysed.table:
        return ""
    return ", ".join(sorted({str(gpu) for gpu in analysed.table["gpu"].dropna()}))


def _code(code: Mapping[str, Any]) -> str:
    if not code.get("commit"):
        return ""
    changed = f", {code['changed']} changed files" if code.get("changed") else ""
    return f"{code['commit'][:12]} on {code['branch']}{changed}"


def _plain(markdown: str) -> str:
    return markdown.replace("**", "").replace("`", "")


def _day(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%d %B %Y}"


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
