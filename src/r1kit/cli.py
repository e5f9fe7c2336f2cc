"""The command line: parse, load, call; the only place that knows arguments and exit codes."""

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from r1kit.errors import Interrupted, R1Error
from r1kit.options import BenchOptions, DrawOptions, EvalOptions, takes

if TYPE_CHECKING:
    from r1kit.recipe import Recipe

app = typer.Typer(
    help="r1kit: the DeepSeek-R1 system, whole, from a laptop to a cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunOption = Annotated[Path | None, typer.Option("--run", help="The run's folder; by default a new one under runs/.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")]
ExplainOption = Annotated[bool, typer.Option("--explain", help="Say what each figure means.")]
JsonOption = Annotated[
    str | None, typer.Option("--json", help="Write the figures to this file, or - for standard output.")
]

BenchName = Literal["rollouts", "train", "iteration", "verify", "all"]
ExportFormat = Literal["hf"]
ExportDtype = Literal["float32", "bfloat16"]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
) -> None:
    """r1kit: the DeepSeek-R1 system, whole, from a laptop to a cluster."""
    if debug:
        os.environ["R1_DEBUG"] = "1"


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Everything random is derived from it.")] = 0,
    json_: JsonOption = None,
    run: RunOption = None,
    resume: ResumeOption = False,
    explain: ExplainOption = False,
) -> None:
    """Watch the nano base model learn to reason by reinforcement learning alone; minutes on two cores."""
    from rich.console import Console

    from r1kit.demo import run_demo
    from r1kit.errors import RecipeError
    from r1kit.run import new_folder

    if resume and run is None:
        raise RecipeError("--resume needs --run FOLDER: which demo is to go on?")
    figures_to_stdout = json_ == "-"
    run_demo(
        run or new_folder(f"demo-{seed}"),
        seed=seed,
        resume=resume,
        explain=explain,
        json_path=json_,
        console=Console(stderr=figures_to_stdout, markup=False),
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; its `kind` says what is trained.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value", metavar="[KEY=VALUE]...")] = None,
    data: Annotated[
        Path | None, typer.Option(help="A JSON Lines file to train on, in place of the one that the recipe names.")
    ] = None,
    run: RunOption = None,
    resume: ResumeOption = False,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Of several stages, begin anew with this one.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Of several stages, the last to be run.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the resolved recipe, a forecast and the first example; train nothing."),
    ] = False,
    explain: ExplainOption = False,
    paper: Annotated[
        bool, typer.Option("--paper", help="First list every setting in which the recipe is not the paper's R1-Zero.")
    ] = False,
) -> None:
    """Train what a recipe describes."""
    from r1kit.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [], data=data)
    if paper:
        from rich.console import Console

        from r1kit.paper import show_deviations

        show_deviations(loaded, Console(markup=False))
    folder = _folder_of(recipe.stem, run, resume=resume, from_=from_)
    _train(loaded, folder, resume=resume, cut=(from_, until), dry_run=dry_run, explain=explain)


def _folder_of(name: str, run: Path | None, *, resume: bool, from_: str | None) -> Path:
    from r1kit.errors import RecipeError
    from r1kit.run import new_folder

    if run is None and (resume or from_ is not None):
        option = "--resume" if resume else "--from"
        raise RecipeError(f"{option} needs --run FOLDER: which run is to go on?")
    return run or new_folder(name)


def _train(
    loaded: "Recipe", folder: Path, *, resume: bool, cut: tuple[str | None, str | None], dry_run: bool, explain: bool
) -> None:
    from rich.console import Console

    from r1kit.forecast import show_dry_run
    from r1kit.pipeline import train as train_recipe
    from r1kit.stage_runner import Cut

    console = Console(markup=False)
    part = Cut(from_=cut[0], until=cut[1])
    if dry_run:
        show_dry_run(loaded, console, folder, part)
        return
    train_recipe(loaded, folder, resume=resume, explain=explain, console=console, cut=part)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, demos, or stages.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; by default report.html in RUN, for several RUNs here.")
    ] = None,
    json_: JsonOption = None,
) -> None:
    """Make one self-contained page of a run, or of several side by side: curves, a run doctor, rollouts, recipe."""
    from r1kit.insight.report import write_report
    from r1kit.insight.summary import show_report, write_json

    page = out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    figures = write_report(runs, page)
    write_json(figures, json_)
    show_report(figures, page, to_stderr=json_ == "-")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A folder, run, GGUF file, hub id, or nano.")],
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="hf: what transformers and vLLM load.")] = "hf",
    dtype: Annotated[ExportDtype, typer.Option(help="Precision of the weights on disk.")] = "float32",
) -> None:
    """Write a model as a folder of its own, and check that it gives the same logits."""
    from r1kit.models.export import export_model

    policy = export_model(model, out, dtype=dtype)
    typer.echo(f"{policy.num_parameters():,} parameters written to {out}")


@app.command("eval")
@takes(EvalOptions)
def evaluate(
    model: Annotated[str, typer.Argument(help="A folder, run, GGUF file, hub id, or nano.")],
    options: EvalOptions,
    task: Annotated[list[str], typer.Option(help="A JSON Lines file or a task's name; may be repeated.")],
    data: Annotated[Path | None, typer.Option(envvar="R1KIT_DATA", help="Where benchmark files lie.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for samples.jsonl and results.json.")] = None,
    compare: Annotated[str | None, typer.Option(help="Another model, or a folder of results, to compare with.")] = None,
    json_: JsonOption = None,
) -> None:
    """Measure a model: pass@1 over k samples, pass@k, cons@k, with standard errors. The same command goes on."""
    from rich.console import Console

    from r1kit.config.evaluation import EvalSettings, settings_from_options
    from r1kit.evaluation.session import evaluate_model

    settings = settings_from_options(EvalSettings, options.given())
    console = Console(stderr=json_ == "-", markup=False)
    evaluate_model(model, task, settings, data=data, out=out, other=compare, destination=json_, console=console)


@app.command()
@takes(DrawOptions)
def sample(
    model: Annotated[str, typer.Argument(help="A folder, run, GGUF file, hub id, or nano.")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Problems, one JSON object a line.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The same rows with their completions.")],
    options: DrawOptions,
    json_: JsonOption = None,
) -> None:
    """Draw completions for a file of problems, thinking and answer apart. The same command goes on where it stopped."""
    from rich.console import Console

    from r1kit.config.evaluation import DrawSettings, settings_from_options
    from r1kit.evaluation.sampling import sample_and_report

    settings = settings_from_options(DrawSettings, options.given())
    console = Console(stderr=json_ == "-", markup=False)
    sample_and_report(model, source, target, settings, destination=json_, console=console)


@app.command()
def verify(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="IN and OUT, JSON Lines; standard input and output by default."),
    ] = None,
    check: Annotated[bool, typer.Option("--self-check", help="Try verifiers on the golds of FILE... instead.")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Try the rewards of RECIPE [KEY=VALUE]... on gold and nonsense instead.")
    ] = False,
    verifier: Annotated[
        str | None, typer.Option(help="math, code, choice, exact, instruction, json, format, language, …")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the verifier; may be repeated.")] = None,
    language: Annotated[str | None, typer.Option(help="Of the rows that name none. (en)")] = None,
    json_: JsonOption = None,
) -> None:
    """Judge completions: rows in, the same rows with verdicts out, in order; a bad row is reported and passed over."""
    from rich.console import Console

    from r1kit.rewards.verify_command import refuse_idle, verify_golds, verify_rewards, verify_rows

    named, options = files or [], option or []
    console = Console(stderr=json_ == "-" or not (check or audit), markup=False)
    if audit:
        given = {"--self-check": check, "--verifier": verifier, "--option": options, "--language": language}
        refuse_idle(given, "--audit")
        verify_rewards(named, json_path=json_, console=console)
    elif check:
        refuse_idle({"--language": language}, "--self-check")
        verify_golds(named, verifier=verifier, options=options, json_path=json_, console=console)
    else:
        verify_rows(named, verifier=verifier, options=options, language=language, json_path=json_, console=console)


@app.command()
def doctor(
    numerics: Annotated[
        bool, typer.Option("--numerics", help="Check every formula on this machine too, and the engine; seconds.")
    ] = False,
    json_: JsonOption = None,
) -> None:
    """Say what is installed, what is missing with the command that mends it, and whether the nano demo can run."""
    from rich.console import Console

    from r1kit.diagnostics.command import examine

    examine(numerics=numerics, json_path=json_, console=Console(stderr=json_ == "-", markup=False))


@app.command()
@takes(BenchOptions)
def bench(
    name: Annotated[BenchName, typer.Argument(help="What is timed.")],
    options: BenchOptions,
    json_: JsonOption = None,
) -> None:
    """Time sampling, training, a whole iteration, or judging, beside what this machine could do at the most."""
    from rich.console import Console

    from r1kit.bench.command import run_bench
    from r1kit.bench.workload import BenchSettings
    from r1kit.insight.summary import write_json

    write_json(run_bench(name, BenchSettings(**options.given()), Console(stderr=True, markup=False)), json_)


def main() -> None:
    """Run the command line; errors of the user's hand are one line on standard error."""
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except R1Error as error:
        if os.environ.get("R1_DEBUG"):
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_status)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise Interrupted("stopped")


if __name__ == "__main__":
    main()
