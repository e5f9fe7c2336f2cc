"""How cost grows with the work: training tokens a second, memory of long steps, and a decoding step's time by context.

    python benchmarks/scaling.py models/smollm2 --json FILE --plot FILE.svg

Every measurement of memory is a process of its own. Nothing else should run meanwhile.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from r1kit.bench.machine import measure_limits
from r1kit.bench.work import NetworkShape
from r1kit.bench.workload import Bench, BenchSettings
from r1kit.config.objective import OptimizerSettings
from r1kit.engine.engine import Request
from r1kit.engine.native.engine import NativeEngine
from r1kit.objectives.token_weights import sequence_mean
from r1kit.training.batch import Batch, collate_tokens
from r1kit.training.memory import return_free_memory
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import optimizer_step
from r1kit.types import SamplingSpec

STEPS = ((8, 120), (16, 120), (32, 120), (64, 120), (128, 120))
"""Rows and tokens of each; 8 rows share a prompt."""
LONG = {
    "16,384 packed tokens, completions of up to 4,096": (4096, 4096, 3072, 2048, 1536, 1024, 512),
    "one completion of 8,192": (8192,),
}
PROMPT = 64
CONTEXTS, ROWS, DECODED = (64, 256, 512, 1024), 16, 24
"""Rows decode so many tokens behind prompts of each length, a prompt of its own each."""
REPEATS = 3


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--decoding", action="store_true", help="only the decoding steps")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    if options.decoding:
        print(json.dumps(decoding_times(options.model)))
        return
    if options.memory_of:
        print(json.dumps(memory_of(options.model, LONG[options.memory_of])))
        return
    found = {
        "memory": {name: in_own_process(options.model, name) for name in LONG},
        "training": training_rates(options.model),
        "decoding": decoding_times(options.model),
    }
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if options.plot:
        options.plot.write_text(drawing(found), "utf-8")


def batch_of(lengths: list[int], rows_per_prompt: int, vocab_size: int) -> Batch:
    """Rows of random tokens; as many follow one another with the same prompt."""
    random = torch.Generator().manual_seed(0)
    num_prompts = -(-len(lengths) // rows_per_prompt)
    prompts = torch.randint(1000, vocab_size, (num_prompts, PROMPT), generator=random).tolist()
    completions = [torch.randint(1000, vocab_size, (length,), generator=random).tolist() for length in lengths]
    batch = collate_tokens([prompts[row // rows_per_prompt] for row in range(len(lengths))], completions)
    return batch.with_token_weights(sequence_mean(batch.completion_mask_BT))


class Trainer:
    """Steps of a policy on given batches."""

    def __init__(self, model: str) -> None:
        """Load it, in bfloat16 with float32 masters."""
        settings = BenchSettings(model=model, dtype="bfloat16", max_tokens_per_microbatch=16384)
        self.bench = Bench.of(settings, trains=True)
        self.optimizer = Optimizer(self.bench.policy, OptimizerSettings(lr=1e-6), total_steps=10_000)

    def step(self, batch: Batch) -> float:
        """Seconds that one took."""
        started = time.perf_counter()
        optimizer_step(
            self.bench.policy,
            self.optimizer,
            batch,
            lambda stats, microbatch: (-(stats.logprobs_BT * microbatch.token_weights_BT).sum(), {}),
            temperature=1.0,
            max_tokens_per_microbatch=16384,
        )
        return time.perf_counter() - started


def training_rates(model: str) -> list[dict[str, float]]:
    """Tokens trained on a second, for steps of several sizes."""
    trainer, rates = Trainer(model), []
    for rows, length in STEPS:
        batch = batch_of([length] * rows, 8, trainer.bench.policy.vocab_size)
        tokens = rows * length + rows // 8 * PROMPT
        seconds = [trainer.step(batch) for _ in range(REPEATS + 1)][1:]
        rates.append(
            {
                "tokens": tokens,
                "seconds": statistics.median(seconds),
                "tokens_per_second": tokens / statistics.median(seconds),
            }
        )
        print(rates[-1], file=sys.stderr, flush=True)
    return rates


def in_own_process(model: str, name: str) -> dict[str, float]:
    """The memory of a step, unmixed with that of others."""
    command = [sys.executable, __file__, model, "--memory-of", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(name, done.stdout, file=sys.stderr, flush=True)
    return json.loads(done.stdout)


def memory_of(model: str, lengths: tuple[int, ...]) -> dict[str, float]:
    """Bytes above the process, weights, gradients and optimizer state, at the peak of the second step."""
    baseline = resident("VmRSS")
    trainer = Trainer(model)
    parameters = trainer.bench.policy.num_parameters()
    fixed = parameters * 4 * 4  # weights, gradients, and two moments, in float32
    batch = batch_of(list(lengths), 1, trainer.bench.policy.vocab_size)
    trainer.step(batch)
    return_free_memory()
    Path("/proc/self/clear_refs").write_text("5")
    seconds = trainer.step(batch)
    peak = resident("VmHWM")
    tokens = sum(lengths) + len(lengths) * PROMPT
    return {"tokens": tokens, "peak_bytes": peak, "baseline_bytes": baseline, "fixed_bytes": fixed,
            "above_bytes": peak - baseline - fixed, "seconds": seconds}  # fmt: skip


def resident(name: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def decoding_times(model: str) -> dict[str, Any]:
    """Seconds of a step by what its rows look back at, the line through them, and the floor of its slope.

    Contexts are read as prompts, which takes a fraction of the time that decoding them would.
    """
    bench = Bench.of(BenchSettings(model=model, dtype="bfloat16"), trains=False)
    limits = measure_limits(bench.policy.compute_dtype, bench.policy.device)
    engine = NativeEngine(bench.policy, max_sequences=ROWS)
    sampling = SamplingSpec(max_new_tokens=DECODED + 8, banned_token_ids=(bench.policy.tokenizer.eos_token_id,))
    random = torch.Generator().manual_seed(0)
    points = []
    for context in (CONTEXTS[0], *CONTEXTS):  # the first time warms up
        prompts = torch.randint(1000, bench.policy.vocab_size, (ROWS, context), generator=random).tolist()
        ids = engine.submit(
            [Request(prompt_token_ids=tuple(prompt), sampling=sampling, seed=row) for row, prompt in enumerate(prompts)]
        )
        engine.step()
        seconds = [seconds_of(engine.step) for _ in range(DECODED)]
        engine.cancel(ids)
        points.append((context + DECODED / 2, statistics.median(seconds)))
        print(points[-1], file=sys.stderr, flush=True)
    points = points[1:]
    slope, start = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    shape = NetworkShape.of(bench.policy)
    bytes_of = [shape.step_bytes(ROWS, ROWS, context, 0) for context in (100, 1100)]
    floor = (bytes_of[1] - bytes_of[0]) / 1000 / limits.bytes_per_second
    return {"points": points, "rows": ROWS, "seconds_at_0": start, "seconds_per_token": slope,
            "floor_per_token": floor, "times_floor": slope / floor,
            "bytes_per_second": limits.bytes_per_second}  # fmt: skip


def seconds_of(action: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def drawing(found: dict[str, Any]) -> str:
    """Both curves as one SVG."""
    training = [(one["tokens"], one["tokens_per_second"]) for one in found["training"]]
    decoding = [(x, 1000 * y) for x, y in found["decoding"]["points"]]
    fit = found["decoding"]
    line = [
        (0, 1000 * fit["seconds_at_0"]),
        (CONTEXTS[-1], 1000 * (fit["seconds_at_0"] + fit["seconds_per_token"] * CONTEXTS[-1])),
    ]
    floor = [(0, line[0][1]), (CONTEXTS[-1], line[0][1] + 1000 * fit["floor_per_token"] * CONTEXTS[-1])]
    parts = [
        panel(0, "training: tokens a second, by tokens a step", training, []),
        panel(
            420,
            f"decoding {ROWS} rows: milliseconds a step, by context (line: fit; dashes: floor of reading the cache)",
            decoding,
            [(line, ""), (floor, "4 3")],
        ),
    ]
    root = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 300" font-family="sans-serif" font-size="11">'
    return f"{root}{''.join(parts)}</svg>\n"


def panel(
    left: int, title: str, points: list[tuple[float, float]], lines: list[tuple[list[tuple[float, float]], str]]
) -> str:
    """Points, and lines through them, on axes that begin at 0."""
    right, top = max(x for x, _ in points) * 1.05, max(y for _, y in points) * 1.15

    def place(point: tuple[float, float]) -> str:
        return f"{left + 50 + 340 * point[0] / right:.1f},{260 - 220 * point[1] / top:.1f}"

    marks = "".join(
        '<circle r="3" fill="#1f5fa8" cx="{}" cy="{}"/>'.format(*place(point).split(",")) for point in points
    )
    drawn = "".join(
        f'<polyline fill="none" stroke="#888" stroke-dasharray="{dash}" points="{" ".join(map(place, line))}"/>'
        for line, dash in lines
    )

    def words_at(point: tuple[float, float], lower: float, words: str) -> str:
        across, down = place(point).split(",")
        return f'<text x="{across}" y="{float(down) + lower:.1f}" text-anchor="middle">{words}</text>'

    labels = "".join(words_at(point, -7, f"{point[1]:,.0f}") for point in points)
    ticks = "".join(words_at((x, 0), 14, f"{x:,.0f}") for x, _ in points)
    axes = f'<path d="M{left + 50},30V260H{left + 400}" fill="none" stroke="#444"/>'
    words = f'<text x="{left + 50}" y="16">{title[:62]}</text><text x="{left + 50}" y="28">{title[62:]}</text>'
    return axes + words + drawn + marks + labels + ticks


if __name__ == "__main__":
    main()
