"""Say whether this environment is what its role wants: ``python verify_env.py [--role ROLE] [--json]``.

Exit code 0 if it is, 1 if not. It also answers where verl-lab cannot be imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    """Check, print, and return the exit code."""
    parser = argparse.ArgumentParser(description="Check this Python environment against what verl-lab pins.")
    parser.add_argument("--role", help="base, manager, cpu, test or training (default: what is installed)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        from verl_lab.environments import verify
        from verl_lab.errors import VerlLabError
    except ImportError as error:
        wrong = {
            "name": "verl-lab",
            "ok": False,
            "found": f"not importable: {error}",
            "wanted": "importable",
            "fix": "",
        }
        wrong["fix"] = "environments/setup_local_env.sh ROLE"
        unknown = {"role": args.role, "python": sys.executable, "ok": False, "checks": [wrong]}
        print(json.dumps(unknown, indent=2) if args.json else f"verl-lab {wrong['found']}\nRun {wrong['fix']}")
        return 1
    try:
        report = verify(args.role)
    except VerlLabError as error:
        parser.error(str(error))
    print(json.dumps(report.to_dict(), indent=2) if args.json else report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
