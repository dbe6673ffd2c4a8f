"""Known vulnerabilities of the pinned packages, and a list of what is installed: `make audit`.

    python -m tests.support.audit --tools build/audit/bin [--pins constraints.txt] [--out build] [--warn]

pip-audit asks the package index about each pinned version; cyclonedx-bom lists the packages of this interpreter's
environment as `OUT/sbom.json` (CycloneDX) without a network. With `--warn` vulnerabilities are listed and the exit code
is 0: a new advisory must not fail a change that has nothing to do with it.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

WITHIN_S = 900


def verdict(report: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return what to print about a report of pip-audit, and the number of vulnerabilities in it.

    Args:
        report: the report in pip-audit's JSON.
    """
    packages = report["dependencies"]
    skipped = [one for one in packages if "skip_reason" in one]
    audited = len(packages) - len(skipped)
    if not audited:
        return ["the index does not answer questions about vulnerabilities: nothing was audited"], 0
    lines = [
        f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'none yet'}"
        for one in packages
        for fault in one.get("vulns", ())
    ]
    of = f" of {len(packages)}" if skipped else ""
    unknown = f"; the index knows nothing of {', '.join(one['name'] for one in skipped)}" if skipped else ""
    return [*lines, f"{len(lines)} known vulnerabilities in {audited}{of} packages{unknown}"], len(lines)


def audited(tools: Path, pins: Path) -> tuple[list[str], int]:
    """Run pip-audit on pinned versions; return as `verdict`.

    Args:
        tools: folder with the program.
        pins: file of pinned versions.
    """
    program = tools / "pip-audit"
    if not program.exists():
        return ["pip-audit is not installed and the index does not give it: nothing was audited"], 0
    options = ("--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off", "--timeout=10")
    try:
        done = subprocess.run(
            [program, "-r", pins, *options], capture_output=True, text=True, check=False, timeout=WITHIN_S
        )
        return verdict(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return [f"the index did not answer within {WITHIN_S} s: nothing was audited"], 0
    except ValueError:  # no report: the last line says why
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [f"the index does not answer ({reason[:160]}): nothing was audited"], 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the vulnerabilities and write the list of packages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--pins", type=Path, default=Path("constraints.txt"))
    parser.add_argument("--out", type=Path, default=Path("build"))
    parser.add_argument("--warn", action="store_true")
    given = parser.parse_args(arguments)
    lines, number = audited(given.tools, given.pins)
    print("\n".join(f"audit: {line}" for line in lines))
    program = given.tools / "cyclonedx-py"
    if program.exists():
        given.out.mkdir(parents=True, exist_ok=True)
        sbom = given.out / "sbom.json"
        options = ("--output-reproducible", "--of", "JSON", "--pyproject", "pyproject.toml", "-o", sbom)
        subprocess.run([program, "environment", *options, sys.executable], check=True, timeout=WITHIN_S)
        print(f"audit: {len(json.loads(sbom.read_text())['components'])} packages are listed in {sbom}")
    else:
        print("audit: cyclonedx-bom is not installed and the index does not give it: no list of packages was written")
    return 0 if given.warn else min(number, 1)


if __name__ == "__main__":
    sys.exit(main())
