"""The command line: parse, call, map errors to exit codes. Nothing else imports typer."""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

import tuner
from tuner.cli.compare import compare
from tuner.cli.exit_codes import brief, exit_codes, fail, one_form
from tuner.cli.export import export
from tuner.cli.log import LOG, judge_log
from tuner.cli.looks import data, parts
from tuner.cli.looks import inspect as inspect_command
from tuner.cli.safe_pipes import make_unbreakable
from tuner.cli.worker import worker
from tuner.core.errors import InputError, UsageError, did_you_mean
from tuner.core.shell import line_of
from tuner.core.signals import Terminated, ignore, received
from tuner.core.stage_ref import StageRef
from tuner.stages import checklist

if TYPE_CHECKING:
    from tuner.cli.output import Reporter
    from tuner.workflow.engine import Workflow
    from tuner.workflow.stage_run import Outcome

HELP = "Carry out the deep-learning tuning checklist on your model and data, step by step."


RecipePath = Annotated[
    str, typer.Argument(metavar="RECIPE", help="path of a recipe, or the name of a file in recipes/")
]
RecipeOrLog = Annotated[str | None, typer.Argument(metavar="RECIPE", help="path or name of a recipe; none with --log")]
OptionalRecipe = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help="path or name of a recipe; none: every run in runs/")
]

COMMON: dict[str, tuple[Any, Any, str]] = {
    "run_dir": (Path | None, None, "where the run's artifacts lie (default: runs/<recipe name>)"),
    "set": (list[str] | None, None, "override a recipe key, as key=value; may be repeated"),
    "workers": (int | None, None, "trials at once (default: from cores and memory); 0: in this process, for debugging"),
    "engine": (str, "processes", "what runs trials: processes, serial (in this process, for debugging), ray, folder"),
    "address": (
        str | None,
        None,
        "of a running Ray cluster (default: one on this machine), or the folder of `tuner worker`",
    ),
    "device": (str, "auto", "auto, cpu, cuda, mps, cuda:1, or several: cuda:0,cuda:2"),
    "trials_per_device": (int | None, None, "trials at once on each GPU (default: as many as its memory holds)"),
    "stack": (int | None, None, "small trials trained as one, at most (default: as measured; 1: each by itself)"),
    "deadline": (float | None, None, "seconds that a trial may take (default: 10 minutes, or 20 times the expected)"),
    "seed": (int | None, None, "override the recipe's seed"),
    "json": (bool, False, "print the result as JSON, and nothing else, on stdout"),
    "quiet": (bool, False, "no progress on stderr"),
    "force": (bool, False, "go on after a failed or missing step; with test: look at the test split again"),
    "fresh": (bool, False, "start this stage over: forget its finished trials"),
    "allow_stale": (bool, False, "accept results that were made from something else than the recipe now says"),
    "dry_run": (bool, False, "say what would be run, and run nothing"),
    "debug": (bool, False, "show tuner's own traceback on errors"),
}


def _parameters(extra: Mapping[str, tuple[Any, Any, str]]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(
            name, kind, default=default, annotation=Annotated[of, typer.Option(_flag(name, of), help=text)]
        )
        for name, (of, default, text) in {**extra, **COMMON}.items()
    ]


def _flag(name: str, of: Any) -> str:
    flag = "--" + name.replace("_", "-")
    return f"{flag}/--no-{flag[2:]}" if of == bool | None else flag


def _setting_options(stage: str) -> dict[str, tuple[Any, Any, str]]:
    """Return the options that a stage's Settings stand for; None: not given, the recipe or the default decides."""
    from tuner import stages

    options = {}
    for name, info in stages.load(stage).Settings.model_fields.items():
        default = info.get_default()
        text = (info.description or name) + (f" (default: {_default_text(default)})" if default is not None else "")
        options[name] = (_option_type(info.annotation), None, text)
    return options


def _default_text(value: Any) -> str:
    from tuner.core.formatting import value_text

    return value_text(value) if not isinstance(value, bool) else "yes" if value else "no"


def _option_type(annotation: Any) -> Any:
    members = [member for member in get_args(annotation) if member is not type(None)] or [annotation]
    if get_origin(annotation) is Literal:
        return str | None
    return members[0] | None if members[0] in (int, float, str, bool) else str | None


def _command(
    app: typer.Typer,
    name: str,
    function: Callable[..., None],
    extra: Mapping[str, tuple[Any, Any, str]],
    short: str = "",
    recipe_annotation: Any = RecipePath,
) -> None:
    """Register `function(recipe, **options)` as a command whose options are `extra` and the common ones."""

    def call(**options: Any) -> None:
        recipe = options.pop("recipe")
        function(recipe, **options)

    default = inspect.Parameter.empty if recipe_annotation is RecipePath else None
    recipe = inspect.Parameter("recipe", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=recipe_annotation)
    call.__signature__ = inspect.Signature([recipe, *_parameters(extra)])  # type: ignore[attr-defined]
    call.__doc__ = function.__doc__
    app.command(name, short_help=short or None)(call)


# -- the stages -----------------------------------------------------------------------------------------------------


def _register_stage(app: typer.Typer, name: str, invoked: bool) -> None:
    """Register a stage's command; its settings become options only where it is the command that was given."""
    settings = _setting_options(name) if invoked else {}
    judges_logs = invoked and _has(name, "judges_logs")
    extra = {
        **settings,
        **(APPLY if invoked and _has(name, "writes_winner") else {}),
        **(LOG if judges_logs else TRACKERS),
    }

    def stage(recipe: str, **options: Any) -> None:
        flags = {key: options.pop(key) for key in settings}
        if judges_logs and (recipe is None or options["log"] is not None):
            judge_log(recipe, flags, options)
            return
        if options.pop("apply", False):
            _apply(recipe, {name: flags}, options)
            return
        with _session(recipe, {name: flags}, options) as (workflow, reporter):
            if options["dry_run"]:
                reporter.plan([workflow.plan_only(StageRef(name))])
                return
            with workflow.locked():
                outcome = workflow.run_stage(StageRef(name))
            if not (outcome.ran or outcome.stale):
                reporter.say("Done before, and still fresh: nothing was run. This is its report.")
            _shower(reporter, workflow, whole=True)(outcome)
            _finish(reporter)

    stage.__doc__ = checklist.question(name)
    annotation = RecipeOrLog if judges_logs else RecipePath
    _command(app, name, stage, extra, checklist.question(name), annotation)


def _has(name: str, trait: str) -> bool:
    from tuner import stages

    return bool(getattr(stages.traits(name), trait))


TRACKERS = {
    "log": (list[str] | None, None, "show trials as they run in tensorboard, mlflow or wandb too; may be repeated")
}
APPLY = {"apply": (bool, False, "do one round of step 7: apply what the diagnosis proposes, keep it if it helped")}


def _apply(recipe: str, flags: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> None:
    with _session(recipe, flags, options, many=True) as (workflow, reporter):
        if options["dry_run"]:
            raise UsageError("--dry-run does not go with --apply", "tuner status shows the rounds so far.")
        with workflow.locked():
            reporter.after_rounds(workflow.run_one_round(_shower(reporter, workflow), reporter.say))
        _finish(reporter)


def _shower(reporter: Reporter, workflow: Workflow, whole: bool = False) -> Callable[[Outcome], None]:
    """Return what a workflow calls with each outcome: a whole report of a new one, a line of one that stood there.

    `whole`: of that too.
    """

    def show(outcome: Outcome) -> None:
        for reason in outcome.stale:
            reporter.say(f"This result is stale: {reason}")
        reporter.show(outcome.ref, outcome.result, workflow.run.path, brief=not (outcome.ran or whole))

    return show


RUN_OPTIONS = {
    **TRACKERS,
    "through": (str, checklist.LAST_BEFORE_TEST, "stop after this stage; with test, the end: look at the test split"),
    "rounds": (int, 0, "how often to go back to step 5 with what the diagnosis proposes"),
    "html": (Path | None, None, "write the reports as one HTML page to this file as well"),
    "budget": (str | None, None, "time for the whole run, such as 20m; each round takes fine's part again"),
}


def _run(recipe: str, **options: Any) -> None:
    """Carry out the checklist up to the diagnosis, from where it stopped; then rounds; with --through test the test."""
    through, rounds_wanted = options.pop("through"), options.pop("rounds")
    names = list(checklist.BEFORE_TEST)
    budget, html = options.pop("budget"), options.pop("html")
    with _session(recipe, {}, options) as (workflow, reporter):
        from tuner.recipe.templates import find_recipe
        from tuner.workflow import status
        from tuner.workflow.report_page import write_page

        if through not in checklist.NAMES:
            known = did_you_mean(through, checklist.NAMES)
            raise UsageError(f"--through {through}: no such stage{known}", f"One of: {', '.join(checklist.NAMES)}.")
        if rounds_wanted < 0:
            raise UsageError(f"--rounds: must be 0 or more (got {rounds_wanted})", "0 runs the checklist once.")
        to_the_end = through not in names
        names = names if to_the_end else names[: names.index(through) + 1]
        if rounds_wanted and names[-1] != checklist.LAST_BEFORE_TEST:
            before = f"--rounds: a round applies what {checklist.LAST_BEFORE_TEST} proposes; --through {through}"
            raise UsageError(f"{before} stops before it", "Leave one of them out.")
        if options["dry_run"] and html is not None:
            raise UsageError("--html: a dry run has no report", "Leave one of them out.")
        if options["dry_run"]:
            reporter.plan(workflow.plan_pending(names, budget, to_the_end))
            return

        show = _shower(reporter, workflow)
        with workflow.locked():
            passed = workflow.run_all(names, show, budget, to_the_end)
            if passed and rounds_wanted:
                reporter.after_rounds(workflow.run_rounds(rounds_wanted, show, reporter.say))
            if passed and to_the_end:
                show(workflow.run_stage(StageRef(through)))
        reporter.say(f"Plots: {workflow.run.path / '*' / 'plots' / '*.png'}")
        if html is not None:
            run = status.collect(find_recipe(recipe), options["run_dir"], options["set"] or [])[0]
            reporter.say(write_page(run, html))
        _finish(reporter)


def _finish(reporter: Reporter) -> None:
    """End the command: print what is left to print; a failed verdict is exit code 1."""
    reporter.finish()
    if any(result.verdict == "fail" for result in reporter.results):
        raise SystemExit(1)


# -- one command's session ------------------------------------------------------------------------------------------


@contextmanager
def _session(
    recipe: str,
    flags: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Any],
    many: bool = False,
) -> Iterator[Any]:
    """Load the recipe and make the workflow; whatever goes wrong ends the command with its exit code."""
    run_dir: list[Path] = []
    with exit_codes(options["json"], options["debug"], run_dir):
        from tuner import stages
        from tuner.cli.output import Reporter
        from tuner.recipe.file import load_recipe
        from tuner.recipe.templates import find_recipe
        from tuner.view.progress import ProgressView
        from tuner.workflow.accepted_codes import check_codes
        from tuner.workflow.engine import Workflow
        from tuner.workflow.options import GIVEN, Options

        given = {
            stage: {key: value for key, value in values.items() if value is not None} for stage, values in flags.items()
        }
        chosen = Options(
            assignments=options["set"] or (),
            log=options.get("log") or (),
            command=line_of(["tuner", *sys.argv[1:]]),
            flags=given,
            **{name: options[name] for name in GIVEN},
        ).checked()
        path = find_recipe(recipe)
        loaded = load_recipe(path, chosen.assignments, chosen.seed, settings=stages.settings_models())
        check_codes(path, loaded)
        workflow = Workflow(path, loaded, chosen, ProgressView(quiet=options["quiet"] or options["json"]))
        run_dir.append(workflow.run.path)
        try:
            yield workflow, Reporter(recipe, chosen.repeated, as_json=options["json"], many=many or not flags)
        finally:
            workflow.close()


# -- looking --------------------------------------------------------------------------------------------------------


def status(
    recipe: OptionalRecipe = None,
    run_dir: Annotated[Path | None, typer.Option(help="the run's folder (default: runs/<recipe name>)")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="override a recipe key, as key=value")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say which steps are fresh, stale (why), missing or failed."""
    with exit_codes(as_json, False, []):
        from tuner.recipe.templates import find_recipe
        from tuner.workflow import status

        if set_ and recipe is None:
            raise UsageError("--set: overrides a recipe, and none is named", "tuner status RECIPE --set key=value")
        runs = status.collect(find_recipe(recipe) if recipe else None, run_dir, set_ or [])
        if as_json:
            print(json.dumps([run.to_json() for run in runs], indent=2))
            return
        from tuner.view.errors import printable
        from tuner.view.page import make_console
        from tuner.view.status import rounds_lines, status_table

        for run in runs:
            head = f"{run.path}   recipe {run.recipe or 'unknown'}" + (f"\n {run.problem}" if run.problem else "")
            if run.log:
                head = f"{run.path}   log {run.log}"
            print(f"\n {printable(brief(head), sys.stdout.encoding)}")
            status_table([{**row.to_json(), "stage": row.ref.label} for row in run.rows], make_console())
            rounds_lines(run.rounds, make_console())


def report(
    recipe: OptionalRecipe = None,
    run_dir: Annotated[Path | None, typer.Option(help="the run's folder (default: runs/<recipe name>)")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="override a recipe key, as key=value")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="write one HTML page instead, to send")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a list of the stages' results as JSON")] = False,
) -> None:
    """Print the reports of all finished steps again, or write them as one HTML page."""
    with exit_codes(as_json, False, []):
        from tuner.cli.output import Reporter
        from tuner.recipe.templates import find_recipe
        from tuner.workflow import status
        from tuner.workflow.options import Options
        from tuner.workflow.report_page import write_page

        one_form(html, as_json)
        if set_ and recipe is None:
            raise UsageError("--set: overrides a recipe, and none is named", "tuner report RECIPE --set key=value")
        runs = status.collect(find_recipe(recipe) if recipe else None, run_dir, set_ or [])
        if len(runs) > 1 and (html is not None or as_json):
            form = "--html: one page" if html is not None else "--json: one list"
            raise UsageError(f"{form} is of one run", f"Name its recipe, or {runs[0].path} by --run-dir.")
        if html is not None:
            print(write_page(runs[0], html))
            return
        for run in runs:
            there = Options(run_dir=run_dir if recipe else run.apart, assignments=set_ or ())
            reporter = Reporter(recipe or run.recipe, there.repeated, as_json=as_json, many=True)
            reporter.overview(run.path, [(row.ref, row.result) for row in run.rows if row.result is not None])
            for row in run.rows:
                if row.result is not None and run.log:
                    reporter.show_log(row.result, run.path / row.ref.label)
                elif row.result is not None:
                    reporter.show(row.ref, row.result, run.path)
            damaged = dict.fromkeys(reason for row in run.rows if row.state == "corrupt" for reason in row.reasons)
            if not reporter.results and not damaged:
                raise InputError(f"no step of {run.path} has finished", "tuner run RECIPE begins with step 1.")
            if reporter.results and not (as_json and damaged):
                reporter.finish()
            if damaged:
                raise InputError("\n".join(damaged), "Restore the file, or do its step over with --fresh.")


def explain(
    code: Annotated[
        str | None, typer.Argument(help="the code of a finding, e.g. LR301, or a cause; none: list all, by step")
    ] = None,
) -> None:
    """Explain a finding: what it means, and how to fix it; without a code, list what every step looks for."""
    with exit_codes(False, False, []):
        from tuner.checks import engine
        from tuner.view.explain import explain as show
        from tuner.view.explain import listing
        from tuner.view.page import make_console

        known = engine.all_rules()
        if code is None:
            listing(known.values(), checklist.NAMES, make_console())
            return
        cards = [card for card in known.values() if code.upper() == card.code or code.lower() == card.cause]
        if not cards:
            names = [*known, *(card.cause for card in known.values())]
            raise UsageError(
                f"{code}: no such code{did_you_mean(code.upper(), known) or did_you_mean(code.lower(), names)}",
                f"{_families(known)}. `tuner explain` alone lists them with what they look for.",
            )
        for card in cards:
            show(card, make_console())


def _families(codes: Iterable[str]) -> str:
    """Return the codes by their letters: `DA101 to DA116 (12 codes), ...`."""
    families: dict[str, list[str]] = {}
    for code in sorted(codes):
        families.setdefault(code.rstrip("0123456789"), []).append(code)
    return ", ".join(f"{found[0]} to {found[-1]} ({len(found)} codes)" for found in families.values())


def new(
    name: Annotated[
        str,
        typer.Argument(help="name of the recipe; it becomes recipes/NAME.toml, or NAME.toml without a recipes/ folder"),
    ],
    custom: Annotated[
        bool, typer.Option("--custom", help="write a Python file with your own data, model, loss and step too")
    ] = False,
    source: Annotated[
        str, typer.Option(help="digits, mnist, fashion_mnist, cifar10, cifar100, image_folder, table, npz")
    ] = "digits",
    force: Annotated[bool, typer.Option("--force", help="overwrite what is there")] = False,
) -> None:
    """Write a commented recipe to start from."""
    with exit_codes(False, False, []):
        from tuner.recipe.templates import to_edit, write_recipe

        if custom and source != "digits":
            raise UsageError(
                f"--source {source}: with --custom the data come from the Python file", "Leave one of them out."
            )
        for path in write_recipe(name, source, custom, force):
            print(f"wrote {path}")
        if edit := to_edit(source, custom):
            print(f"\nEdit:  {edit}")
        print(f"\nNext:  tuner run {path if not custom else path.with_suffix('.toml')}")


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="delete all but the downloads")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List what all runs share (decoded data, downloads), or delete it."""
    with exit_codes(as_json, False, []):
        from tuner.core import cached
        from tuner.view.text import duration

        folder = cached.cache_folder()
        shown, left = cached.clear(folder) if clear else (cached.entries(folder), 0)
        total = cached.size_words(sum(entry.size_bytes for entry in shown))
        if as_json:
            print(json.dumps([entry.to_json() for entry in shown], indent=2))
            return
        for entry in shown:
            age = duration(round(entry.age_seconds))
            print(f" {cached.size_words(entry.size_bytes):>8}  {entry.kind:<10}  {age:>8} old  {entry.source}")
        print(
            f" {total} {'deleted from' if clear else 'in'} {folder}" + (f"; {left} in use, left there" if left else "")
        )


def _version(value: bool) -> None:
    if value:
        print(f"tuner {tuner.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
) -> None:
    pass


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Return the command line. A stage's settings are read only when it is among the arguments: --help stays quick."""
    app = typer.Typer(
        help=HELP, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(_root)
    _command(app, "run", _run, RUN_OPTIONS, "steps 1 to 6, from where they stopped")
    for name in checklist.NAMES:
        _register_stage(app, name, name in arguments)
    for function in (status, report, compare, export, explain, new, parts, inspect_command, data, cache, worker):
        app.command()(function)
    return app


def main() -> None:
    """Run the command line; every way out has a documented exit code."""
    try:
        code = _ended()
        ignore()
    except (KeyboardInterrupt, Terminated):  # before the command has begun, or when it has said all
        code = 128 + (received() or signal.SIGINT)
        ignore()
    sys.exit(code)


def _ended() -> int | str | None:
    """Run the command line; return its exit code."""
    try:
        make_unbreakable()
        completing = os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
        code: int | None = build_app([*sys.argv[1:], *completing])(standalone_mode=False)
        return code
    except SystemExit as end:
        return end.code
    except typer.Abort:
        return 130
    except Exception as error:  # typer's own usage errors; the class is not public in every version
        if (number := received()) is not None:
            return 128 + number
        if not hasattr(error, "format_message"):
            raise
        if "--json" in sys.argv:
            fail(2, error.format_message(), "tuner --help lists the commands.", True)
        else:
            error.show()  # type: ignore[attr-defined]
        code = getattr(error, "exit_code", 2)
        return code
