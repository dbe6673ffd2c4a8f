"""A campaign whose samples a test writes."""

from pathlib import Path

import pytest

from tests.support.written_campaign import WrittenCampaign


@pytest.fixture
def campaign(tmp_path: Path) -> WrittenCampaign:
    return WrittenCampaign(tmp_path)
