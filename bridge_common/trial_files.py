"""File names in the folders of a campaign and of a trial, and the statuses of a trial."""

# Files of a campaign.
TRIALS = "trials"
GIT_DIFF = "git_diff.patch"
CAMPAIGN, PLAN, GATE, SCHEDULE = "campaign.json", "plan.json", "gate.json", "schedule.json"
CARD = "card.html"
DECLARATIONS = "tracking.jsonl"  # runs as they were declared to MLflow, a trial's with the tags below
RAY_LOG = "ray.log"  # what Ray and Tune wrote while the campaign ran
CAMPAIGN_FILES = (CAMPAIGN, PLAN, GATE, SCHEDULE, GIT_DIFF)

# Files of a trial; `trial_folder.TrialFolder` describes their content.
SPEC = "spec.json"
EVENTS = "events.jsonl"
SENT = "events.sent.json"
SAMPLES = "samples.jsonl"
METRICS = "metrics.json"
RESULT = "result.json"
ERROR = "error.json"
STOPPED = "stopped.json"
STOP = "stop"
SELECTED = "selected"  # folder of the selected checkpoint
SELECTED_RECORD = "selected.json"  # in it, written last
HEARTBEATS = "heartbeats"  # folder: see `heartbeat`
TRIAL_FILES = (SPEC, SAMPLES, METRICS, RESULT)  # uploaded to MLflow once the trial has ended

# Tags of a declared trial.
GIT_COMMIT, GIT_DIRTY = "git_commit", "git_dirty"

# Statuses, spelled as in MLflow.
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
FINAL = frozenset({FINISHED, FAILED, KILLED})
