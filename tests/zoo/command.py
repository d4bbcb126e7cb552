"""`python -m tests.zoo run | keep | remeasure | score | certify | list`: planted bugs and healthy look-alikes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.zoo import evidence
from tests.zoo.case import STEPS
from tests.zoo.catalog import KINDS, PARTS, chosen, load_cases
from tests.zoo.certificates import certify, why_not_certified, write_certificates
from tests.zoo.remeasure import remeasure
from tests.zoo.run import done_before, run_cases, tasks_of
from tests.zoo.score import score
from tests.zoo.table import lists, tables


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about, seeds in (
        ("run", "run tuner's checklist on the cases, then print the score", 2),
        ("score", "print the score of the runs that are done", 2),
        ("keep", "store what the rules saw in the runs that are done, whatever code they ran with", 1),
        ("remeasure", "make some of check-init's measurements again for the stored runs, and store them", 1),
        ("certify", "measure whether the bugs do harm and the look-alikes none", 5),
        ("list", "list the cases", 0),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--part", choices=PARTS, default="all", help="which cases (default: all)")
        command.add_argument("--kind", choices=KINDS, default="all", help="bugs or look-alikes (default: all)")
        command.add_argument("--cases", nargs="+", default=[], metavar="NAME", help="names, families or beginnings*")
        command.add_argument("--through", choices=STEPS, default=STEPS[-1], help="the last step (default: the last)")
        command.add_argument("--seeds", type=int, default=seeds, help=f"how many seeds (default: {seeds})")
        command.add_argument("--workers", type=int, default=2, help="how many at a time (default: 2)")
        command.add_argument(
            "--out", type=Path, default=Path("build/zoo"), help="where records go (default: build/zoo)"
        )
        command.add_argument("--again", action="store_true", help="make records again that still hold")
        command.add_argument("--uncertified", action="store_true", help="score cases without a certificate too")
        command.add_argument("--markdown", action="store_true", help="the tables alone")
        if name == "remeasure":
            command.add_argument("--measure", nargs="+", required=True, metavar="NAME", help="which measurements")
    args = parser.parse_args()
    try:
        cases = chosen(args.part, args.kind, args.cases)
    except ValueError as error:
        parser.error(str(error))
    if args.command == "list":
        for case in cases:
            kind = "healthy" if case.healthy else f"{case.step}: {', '.join(case.causes)}"
            print(f"{case.name:50} {case.base:18} {'held out' if case.held_out else 'dev':9} {kind}")
        return
    if args.command == "certify":
        write_certificates(certify(cases, args.seeds, args.out, args.workers, _say, args.again), print)
        return
    if args.command == "remeasure":
        remeasure([case.name for case in cases], args.measure, args.out, args.workers, _say)
        return
    if args.command == "keep":
        for path in sorted((args.out / "records").glob("*.json")):
            record = json.loads(path.read_text())
            case = next((case for case in cases if case.name == record["case"]), None)
            if case is not None and record["status"] == "done":
                evidence.keep(case, why_not_certified(case), record, args.out / "work" / path.stem)
        return
    tasks = tasks_of(cases, args.seeds, args.out, args.through)
    running = args.command == "run"
    records = run_cases(tasks, args.workers, _say, args.again) if running else done_before(tasks)
    result = score(records, load_cases(), lambda case: None if args.uncertified else why_not_certified(case))
    print(tables(result))
    if not args.markdown:
        print(lists(result))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
