"""Hold the conformance results above the floors of an earlier run.

    python tests/check_floors.py conformance.json tests/floors.json           # exit 1 if anything fell
    python tests/check_floors.py conformance.json tests/floors.json --raise   # write higher floors, never lower ones

The floors are counts of items of the development subset: `ops_forward` pass every forward sample,
`ops_forward_and_gradient` also every gradient sample, and likewise for modules and optimizers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def counts(report: dict[str, Any]) -> dict[str, int]:
    """The numbers that floors are kept for, from what `conformance.py --json` writes."""
    result: dict[str, int] = {}
    for kind in ("op", "module", "optimizer"):
        items = [item for item in report["items"] if item["kind"] == kind]
        forward = [item for item in items if item["fwd_ok"]]
        result[f"{kind}s_forward"] = len(forward)
        if kind != "optimizer":
            result[f"{kind}s_forward_and_gradient"] = sum(gradient_passes(item) for item in forward)
    return result


def gradient_passes(item: dict[str, Any]) -> bool:
    column = item["columns"].get("grad")
    return column is None or column["passed"] == column["total"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("floors", type=Path)
    parser.add_argument(
        "--raise", dest="raise_floors", action="store_true", help="write the floors that this run reached"
    )
    options = parser.parse_args(argv)
    report = json.loads(options.report.read_text())
    if "error" in report:
        print(f"conformance did not run: {report['error']}")
        return 1
    reached = counts(report)
    floors: dict[str, int] = json.loads(options.floors.read_text()) if options.floors.exists() else {}
    fallen = False
    for name in sorted({*reached, *floors}):
        value, floor = reached.get(name, 0), floors.get(name, 0)
        fallen |= value < floor
        print(f"{name:32} {value:5d}   floor {floor:5d}{'   FELL' if value < floor else ''}")
    if options.raise_floors:
        higher = {name: max(value, floors.get(name, 0)) for name, value in reached.items()}
        options.floors.write_text(json.dumps(higher, indent=2) + "\n")
    return int(fallen)


if __name__ == "__main__":
    raise SystemExit(main())
