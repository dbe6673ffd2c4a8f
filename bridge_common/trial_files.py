"""Files of a campaign and of a trial, and the statuses a trial goes through."""

# Files of a campaign and of a trial.
TRIALS = "trials"
GIT_DIFF = "git_diff.patch"
GATE = "gate.json"
CAMPAIGN_FILES = ("campaign.json", "plan.json", GATE, GIT_DIFF)
SPEC = "spec.json"
EVENTS = "events.jsonl"
SENT = "events.sent.json"
SAMPLES = "samples.jsonl"
METRICS = "metrics.json"
RESULT = "result.json"
ERROR = "error.json"
TRIAL_FILES = (SPEC, SAMPLES, METRICS, RESULT)


# Statuses, spelled as MLflow spells them.
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
FINAL = frozenset({FINISHED, FAILED, KILLED})
