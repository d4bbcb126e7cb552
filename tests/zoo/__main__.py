"""`python -m tests.zoo run | score | certify | list`: the zoo of planted bugs and healthy look-alikes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.zoo.catalog import PARTS, chosen
from tests.zoo.run import run_cases


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("run", "run tuner's checklist on the cases, then print the score"),
        ("list", "list the cases"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--part", choices=PARTS, default="all", help="which cases (default: all)")
        command.add_argument("--cases", nargs="+", default=[], metavar="NAME", help="names, families or beginnings*")
        command.add_argument("--out", type=Path, default=Path("build/zoo"), help="where records go")
        command.add_argument("--seeds", type=int, default=2)
        command.add_argument("--workers", type=int, default=2)
        command.add_argument("--again", action="store_true", help="make records again that still hold")
    args = parser.parse_args()
    cases = chosen(args.part, args.cases)
    if args.command == "list":
        for case in cases:
            kind = "healthy" if case.healthy else f"{case.step}: {', '.join(case.causes)}"
            print(f"{case.name:44} {case.base:18} {'held out' if case.held_out else 'dev':9} {kind}")
        return
    run_cases(cases, args.seeds, args.out, args.workers, _say, args.again)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
