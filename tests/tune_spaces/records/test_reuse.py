"""Taking results of finished trials: only of the same experiment, whole, and without what belongs to the other."""

from pathlib import Path

from bridge_common import files
from bridge_common.trial_folder import TrialFolder
from ray_bridge import tiny
from tests.support.planned_trials import RUN, campaign, finish, of_variant, plan
from tune_spaces.design import phases
from tune_spaces.design.plan import Plan, make_plan
from tune_spaces.gate.policy import Policy
from tune_spaces.records import reuse


def policy(planned: Plan) -> Policy:
    return Policy(first=planned.first, branches=planned.branches)


def without_projection() -> Plan:
    """Return a plan in which full and C are one experiment, since the projection is held off."""
    return make_plan(phases.phase1(tiny()), tiny(), held={"geometry_projection": False})


def test_finished_trials_are_found_by_the_digits_of_their_name(tmp_path: Path) -> None:
    planned = plan()
    full, b = of_variant(planned, "full"), of_variant(planned, "B")
    one, two = finish(campaign(tmp_path, "one"), full), finish(campaign(tmp_path, "two"), full)
    campaign(tmp_path, "one").begin(b, RUN)
    TrialFolder(tmp_path / "one" / "trials" / "by-hand").write_result({})
    assert reuse.finished_trials(tmp_path) == {full.fingerprint[:8]: [one, two]}


def test_a_campaigns_own_result_comes_before_others(tmp_path: Path) -> None:
    full = of_variant(plan(), "full")
    other, own = finish(campaign(tmp_path, "a"), full), finish(campaign(tmp_path, "b"), full)
    finished = reuse.finished_trials(tmp_path)
    assert reuse.source_of(full, campaign(tmp_path, "b"), finished) == own
    assert reuse.source_of(full, campaign(tmp_path, "c"), finished) == other
    assert reuse.source_of(of_variant(plan(), "B"), campaign(tmp_path, "c"), finished) is None


def test_a_folder_that_shares_eight_digits_is_another_experiment(tmp_path: Path) -> None:
    full = of_variant(plan(), "full")
    other = finish(campaign(tmp_path, "a"), full)
    near = full.fingerprint[:8] + "00000000"
    other.write_result({**(other.result() or {}), "fingerprint": near})
    assert reuse.source_of(full, campaign(tmp_path, "c"), reuse.finished_trials(tmp_path)) is None
    same = finish(campaign(tmp_path, "b"), full)
    assert reuse.source_of(full, campaign(tmp_path, "c"), reuse.finished_trials(tmp_path)) == same
    planned = plan()
    taken = reuse.take_finished(campaign(tmp_path, "c"), policy(planned), planned.trials, RUN)
    assert taken == {full.name: same}


def test_an_earlier_trial_of_the_plan_that_shares_eight_digits_is_another_experiment(tmp_path: Path) -> None:
    planned = without_projection()
    full, c = of_variant(planned, "full"), of_variant(planned, "C")
    assert c.same_as == full.name
    other = finish(campaign(tmp_path), full)
    assert reuse.source_of(c, campaign(tmp_path), {}) == other
    other.write_result({**(other.result() or {}), "fingerprint": full.fingerprint[:8] + "00000000"})
    assert reuse.source_of(c, campaign(tmp_path), {}) is None


def test_records_are_copied_without_checkpoints_and_without_what_stores_have(tmp_path: Path) -> None:
    """A copied list of what was sent would keep the copy's metrics out of MLflow."""
    full = of_variant(plan(), "full")
    source = finish(campaign(tmp_path, "a"), full)
    files.write_text(source.sent_file, "{}")
    files.write_text(source.path / "plots" / "loss.txt", "falls")
    other = of_variant(plan(), "C")
    reuse.copy_records(source, campaign(tmp_path, "b"), other, RUN)  # a start that was ended here begins again
    copy = reuse.copy_records(source, campaign(tmp_path, "b"), other, RUN)
    assert copy == campaign(tmp_path, "b").trial(other.name)
    assert sorted(str(path.relative_to(copy.path)) for path in copy.path.rglob("*") if path.is_file()) == [
        "events.jsonl",
        "plots/loss.txt",
        "result.json",
        "samples.jsonl",
        "spec.json",
    ]
    spec, result, before = copy.spec(), copy.result(), source.result()
    assert spec is not None
    assert result is not None
    assert before is not None
    assert (spec["variant"], spec["fingerprint"]) == ("C", other.fingerprint)
    own = {"variant": "C", "fingerprint": other.fingerprint, "reused_from": str(source.path)}
    assert result == {**before, **own}


def test_a_copy_of_a_copy_names_the_trial_that_ran(tmp_path: Path) -> None:
    full = of_variant(plan(), "full")
    source = finish(campaign(tmp_path, "a"), full)
    second = reuse.copy_records(source, campaign(tmp_path, "b"), full, RUN)
    third = reuse.copy_records(second, campaign(tmp_path, "c"), full, RUN)
    assert (third.result() or {})["reused_from"] == str(source.path)
    reuse.copy_records(third, campaign(tmp_path, "b"), full, RUN)  # once more into a folder that is there


def test_every_next_trial_is_taken_until_one_has_to_run(tmp_path: Path) -> None:
    planned = plan()
    a, b, full = (of_variant(planned, name) for name in ("A", "B", "full"))
    sources = {trial.name: finish(campaign(tmp_path, "a"), trial, accuracy=0.5) for trial in (full, a)}
    own = finish(campaign(tmp_path, "b"), b)
    tree = policy(planned)
    assert reuse.take_finished(campaign(tmp_path, "b"), tree, planned.trials, RUN) == sources
    assert own.result() is not None
    assert list(tree.outcomes) == [full.name, a.name, b.name]
    assert tree.outcomes[a.name].accuracy == 0.5
    assert tree.outcomes[a.name].folder == str(campaign(tmp_path, "b").trial(a.name).path)
    assert tree.next() == of_variant(planned, "C").name


def test_a_result_that_was_copied_serves_a_later_trial_of_the_same_experiment(tmp_path: Path) -> None:
    """With the projection held off, full and C are one experiment: C takes the result that full brought."""
    planned = without_projection()
    full, c = of_variant(planned, "full"), of_variant(planned, "C")
    tree = Policy(first=(full.name, c.name))
    source = finish(campaign(tmp_path, "z"), full)
    taken = reuse.take_finished(campaign(tmp_path, "a"), tree, planned.trials, RUN)
    assert taken[full.name] == source
    assert taken[c.name] == campaign(tmp_path, "a").trial(full.name)
