"""Run drills: JSON rows on standard output, progress on standard error; exit code 1 if one did not pass."""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from drills.stage import ENGINES, SHORT, Sizes, Stage, json_rows
from drills.suite import DRILLS, run_drill
from drills.table import markdown


def main() -> int:
    parser = argparse.ArgumentParser(prog="drills", description="break a real server and count what its callers get")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="torchserve", help="default %(default)s")
    parser.add_argument("--only", nargs="+", choices=sorted(DRILLS), help="default all")
    parser.add_argument("--short", action="store_true", help="few requests, faults under load only")
    parser.add_argument("--markdown", type=Path, help="write the table here, too")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the servers, too
    rows = []
    with tempfile.TemporaryDirectory(prefix="drills-", ignore_cleanup_errors=True) as folder:
        stage = Stage(args.engine, Path(folder), SHORT if args.short else Sizes())
        try:
            for name in args.only or DRILLS:
                start = time.monotonic()
                rows.append(run_drill(name, stage))
                verdict = rows[-1].skipped or ("passed" if rows[-1].passed else f"FAILED: {rows[-1].to_json()}")
                print(f"{name}: {time.monotonic() - start:.0f} s, {verdict}", file=sys.stderr, flush=True)
        finally:
            stage.close()
            print(json.dumps(json_rows(rows), indent=2))
            if args.markdown:
                args.markdown.write_text(markdown(json_rows(rows)) + "\n", "utf-8")
    return 0 if all(row.passed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
