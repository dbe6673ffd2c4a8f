"""Memory that soft tokens save, against values calculated by hand."""

import pytest

from tune_spaces.analysis.kv_cache_savings import kv_cache_saved


def test_share_saved() -> None:
    assert kv_cache_saved(64, 1_000, layout="soft_only", instruction_tokens=35) == pytest.approx(0.9)
    assert kv_cache_saved(100, 1_000, layout="soft_plus_text") == pytest.approx(-0.1)
    with pytest.raises(ValueError, match="at least one token"):
        kv_cache_saved(64, 0, layout="soft_only")
