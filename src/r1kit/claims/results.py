"""Claims over several seeds: means, standard errors and verdicts, as JSON, as a page, and on the console.

RUN/seed-N/claims/a.json   the figures of one claim for one seed
RUN/results.json           all of them, with means and standard errors over seeds
RUN/results.md             the same as a page, made from results.json alone
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.claims.claim import Row, shown
from r1kit.claims.statements import CLAIMS
from r1kit.config.claims import ClaimsRecipe
from r1kit.evaluation.metrics import mean, stderr_of_mean
from r1kit.insight.overview import duration
from r1kit.run import described, differences, disk_errors, plain, write_whole

RESULTS, PAGE = "results.json", "results.md"
INTRODUCTION = """\
Written by `r1 train recipes/nano/claims.toml`, not by hand; [claims.md](claims.md) explains it. V1 and V2 are the two
versions of [arXiv:2501.12948](https://arxiv.org/abs/2501.12948). Each figure is a mean over seeds ± the standard error
of that mean, from the spread between seeds (n = seeds; of one seed there is none). A verdict is about the means; beside
it stands in how many seeds the claim holds.""".splitlines()


def read_claim(path: Path, console: Console) -> dict[str, Any] | None:
    """What stands in a claim's file; None where there is none, and, said, where it is damaged."""
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        wanted = {"claim": str, "seed": int, "figures": dict, "holds": bool, "seconds": dict, "settings": dict}
        if all(isinstance(found[name], kind) for name, kind in wanted.items()):
            return found
        reason = "it is not what a claim's file holds"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{error}"
    console.print(f"{path} is damaged ({reason}): the claim is judged again", highlight=False)
    return None


def across_seeds(name: str, rows: Mapping[int, Row]) -> dict[str, Any]:
    """One claim over its seeds: each figure's mean and the standard error of that mean, and the verdict on the means.

    The standard error is that of independent seeds, n of them: None for one seed.
    """
    claim = CLAIMS[name]  # type: ignore[index]
    seeds = sorted(rows)
    names = [figure for figure in rows[seeds[0]]["figures"] if all(figure in rows[seed]["figures"] for seed in seeds)]
    values = {figure: [float(rows[seed]["figures"][figure]) for seed in seeds] for figure in names}
    means = {figure: mean(found) for figure, found in values.items()}
    return {
        "title": claim.title,
        "source": claim.source,
        "rule": claim.rule,
        "holds": bool(claim.holds(means)),
        "holds_in": sum(bool(rows[seed]["holds"]) for seed in seeds),
        "num_seeds": len(seeds),
        "mean": means,
        "stderr": {figure: stderr_of_mean(found) for figure, found in values.items()},
        "seeds": {
            str(seed): {key: rows[seed][key] for key in ("figures", "holds", "seconds", "tests")} for seed in seeds
        },
    }


def without_seeds(tree: Any) -> Any:
    """Plain values without the seeds in them, in which repetitions of a claim differ."""
    if isinstance(tree, Mapping):
        return {key: without_seeds(value) for key, value in tree.items() if key != "seed"}
    return [without_seeds(value) for value in tree] if isinstance(tree, list) else tree


def collect(recipe: ClaimsRecipe, folder: Path, expected: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Everything that any process has found in the folder so far, written to `results.json` and `results.md`.

    Claims that were judged by other settings than the expected ones, seeds apart, are left out, and it is said.
    """
    with _alone(folder):
        rows: dict[str, dict[int, Row]] = {}
        shared: dict[str, Row] = {}
        for place in sorted(folder.glob("seed-*"), key=lambda path: path.name):
            for name in CLAIMS:
                row = read_claim(place / "claims" / f"{name}.json", Console(quiet=True))
                if row is not None and (changed := differences(without_seeds(row["settings"]), expected.get(name))):
                    told = f"claim {name}, {place.name}: judged by other settings ({changed[0]}); left out"
                    console.print(told, highlight=False, soft_wrap=True)
                elif row is not None:
                    rows.setdefault(name, {})[int(row["seed"])] = row
                    shared.setdefault(str(row["seed"]), {})
                    shared[str(row["seed"])] = {**shared[str(row["seed"])], **row["seconds"].get("shared", {})}
        about = described(recipe)
        settings = {key: value for key, value in recipe.model_dump(mode="json").items() if key not in ("only", "seeds")}
        results = plain(
            {
                "about": {key: value for key, value in about.items() if key != "recipe"},
                "recipe": settings,
                "claims": {name: across_seeds(name, rows[name]) for name in CLAIMS if name in rows},
                "shared_seconds": shared,
            }
        )
        assert isinstance(results, dict)
        with disk_errors(folder):
            write_whole(folder / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
            write_whole(folder / PAGE, page_of(results))
    return results


def write_page(results: Path, page: Path) -> None:
    """Make the page again from a `results.json`."""
    write_whole(page, page_of(json.loads(results.read_text("utf-8"))))


def page_of(results: Row) -> str:
    """Results as Markdown: verdicts in a table, then each claim with its figures, mean ± standard error, and seeds."""
    claims: Mapping[str, Row] = results["claims"]
    seeds = sorted({int(seed) for found in claims.values() for seed in found["seeds"]})
    machine = results["about"].get("machine", {})
    lines = [
        "# The paper's claims, in miniature",
        "",
        *INTRODUCTION,
        "",
        f"Seeds: {', '.join(map(str, seeds))}. Machine: {machine.get('num_cores')} cores, "
        f"{machine.get('processor') or 'unknown'}.",
        "",
        "| | claim | the paper | verdict | in seeds |",
        "|---|---|---|---|---|",
    ]
    for name, found in claims.items():
        verdict = "holds" if found["holds"] else "**does not hold**"
        count = f"{found['holds_in']} of {found['num_seeds']}"
        lines.append(f"| {name} | {found['title']} | {found['source']} | {verdict} | {count} |")
    for name, found in claims.items():
        lines += ["", *_section(name, found)]
    lines += ["", *_times(results, seeds)]
    return "\n".join(lines) + "\n"


def _section(name: str, found: Row) -> Iterator[str]:
    seeds = list(found["seeds"])
    yield f"## {name}. {found['title']}"
    yield ""
    yield f"Holds when: {found['rule']}. ({found['source']})"
    yield ""
    yield f"| figure | mean | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    yield "|---|---|" + "---|" * len(seeds)
    for figure, value in found["mean"].items():
        each = [_cell(figure, found["seeds"][seed]["figures"].get(figure)) for seed in seeds]
        total = _cell(figure, value, found["stderr"].get(figure))
        yield f"| {figure.replace('_', ' ')} | {total} | {' | '.join(each)} |"
    yield (
        f"| holds | {found['holds_in']} of {found['num_seeds']} | "
        + " | ".join("yes" if found["seeds"][seed]["holds"] else "no" for seed in seeds)
        + " |"
    )
    yield ""
    tests = found["seeds"][seeds[0]].get("tests") or {}
    drawn = "; ".join(f"{test}: n = {size['n']}, k = {size['k']}" for test, size in tests.items())
    own = ", ".join(duration(_own_seconds(found["seeds"][seed])) for seed in seeds)
    yield f"{drawn}. Time of its own, by seed: {own}." if drawn else f"Time of its own, by seed: {own}."


def _times(results: Row, seeds: list[int]) -> Iterator[str]:
    yield "## Time of the stages that claims share"
    yield ""
    shared = results["shared_seconds"]
    stages = dict.fromkeys(stage for seed in seeds for stage in shared.get(str(seed), {}))
    yield f"| stage | {' | '.join(f'seed {seed}' for seed in seeds)} |"
    yield "|---|" + "---|" * len(seeds)
    for stage in stages:
        each = [shared.get(str(seed), {}).get(stage) for seed in seeds]
        yield f"| {stage} | {' | '.join('–' if spent is None else duration(spent) for spent in each)} |"


def _cell(figure: str, value: float | None, stderr: float | None = None) -> str:
    return "–" if value is None or not math.isfinite(value) else shown(figure, value, stderr)


def _own_seconds(row: Row) -> float:
    return float(sum(row["seconds"]["own"].values()) + row["seconds"]["measuring"])


def show_results(results: Row, console: Console) -> None:
    """Print a line a claim: its verdict over the seeds, and its figures."""
    for name, found in results["claims"].items():
        verdict = "holds" if found["holds"] else "does not hold"
        figures = ", ".join(
            f"{figure.replace('_', ' ')} {_cell(figure, value, found['stderr'].get(figure))}"
            for figure, value in found["mean"].items()
        )
        told = f"{name}  {verdict} ({found['holds_in']} of {found['num_seeds']} seeds)  {found['title']}: {figures}"
        console.print(told, highlight=False, soft_wrap=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process collects in the folder; the lock ends with the process."""
    with disk_errors(folder), (folder / ".results.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        yield
