"""What runs, and what it showed: campaigns of variants, the gate between phases, statistics and the appendix."""

from typing import TYPE_CHECKING

from bridge_common.lazy import lazy_names
from bridge_common.version import VERSION

if TYPE_CHECKING:
    from tune_spaces.campaign import Campaign
    from tune_spaces.design.phases import Phase, ablate, phase1, phase2, phase3, rivals
    from tune_spaces.design.search import Axis
    from tune_spaces.design.sweep import sweep
    from tune_spaces.design.toggles import Toggle, register_toggle
    from tune_spaces.design.variants import Variant, full, only
    from tune_spaces.gate.decision import GateSettings
    from tune_spaces.records.limits import Limits

__version__ = VERSION
__all__ = [
    "Axis",
    "Campaign",
    "GateSettings",
    "Limits",
    "Phase",
    "Toggle",
    "Variant",
    "ablate",
    "full",
    "only",
    "phase1",
    "phase2",
    "phase3",
    "register_toggle",
    "rivals",
    "sweep",
]

_HOMES = {
    "Campaign": "tune_spaces.campaign",
    "GateSettings": "tune_spaces.gate.decision",
    "Limits": "tune_spaces.records.limits",
    "Axis": "tune_spaces.design.search",
    "sweep": "tune_spaces.design.sweep",
    **dict.fromkeys(("Phase", "ablate", "phase1", "phase2", "phase3", "rivals"), "tune_spaces.design.phases"),
    **dict.fromkeys(("Toggle", "register_toggle"), "tune_spaces.design.toggles"),
    **dict.fromkeys(("Variant", "full", "only"), "tune_spaces.design.variants"),
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
