"""A campaign that is started over and over."""

from pathlib import Path

from bridge_common import files
from tests.support.card_campaigns import make_ended
from tune_spaces.campaign import Campaign


def test_fifty_resumes_of_a_finished_campaign_change_nothing(tmp_path: Path) -> None:
    made = make_ended(tmp_path, "spring", items=20, seeds=(0,), sizes=(8,))
    made.run(job="nothing:runs")

    def contents() -> dict[str, bytes]:
        changing = {"campaign.json", "driver.json", "plan.json", ".lock"}
        paths = [path for path in made.folder.rglob("*") if path.is_file() and path.name not in changing]
        return {str(path): path.read_bytes() for path in paths}

    before, plan = contents(), made.records.plan()
    for _ in range(50):
        Campaign.load(tmp_path, "spring").run(job="nothing:runs")
    assert contents() == before
    assert made.records.plan() == plan
    starts = files.read_json(made.records.campaign_file)["starts"]
    assert len(starts) == 52, "each start is recorded once"
