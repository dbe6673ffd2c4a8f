"""`space PHASE`: Ray Tune's search space of a phase, and where in it each variant lies."""

import json

from cluster.cli.options import PhaseRequest
from cluster.cli.request import make_phase, make_specs, make_trial_specs
from tune_spaces.design.space import point, space
from tune_spaces.ray_tune.early_stopping import check_stop_early


def print_space(phase: str, request: PhaseRequest, as_json: bool) -> None:
    """Print the values of every field that the trials of a phase vary, and each variant's own.

    Args:
        phase: the command's name.
        request: its options.
        as_json: print one object with `space` and `variants` instead of two tables.
    """
    check_stop_early(request.stop_early)
    specs = make_trial_specs(phase, request)
    values = space(specs.values())
    search = make_phase(phase, make_specs(request)[0], request).search
    values |= {axis.field: [axis.text] for axis in (search.axes if search else ()) if not axis.values}
    points = {} if search else {name: point(spec, values) for name, spec in specs.items()}
    if as_json:
        print(json.dumps({"space": values, "variants": points}, indent=2, ensure_ascii=False))
        return
    width = max(map(len, values))
    for field, known in values.items():
        print(f"config/{field:<{width}}  {', '.join(map(_text, known))}")
    varied = [field for field in values if len({repr(own[field]) for own in points.values()}) > 1]
    if search:
        print(f"\n{search.method} proposes {search.trials} variants")
        return
    print(f"\n{len(specs)} variants, and what differs between them:")
    for name, own in points.items():
        print(f"{name}: " + ", ".join(f"{field}={_text(own[field])}" for field in varied))


def _text(value: object) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
