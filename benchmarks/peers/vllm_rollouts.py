"""Rollouts by vLLM on the processor, in bfloat16, with the logprobs of the drawn tokens. Prints one JSON object."""

import argparse
import json
import os
import statistics
import time
from pathlib import Path

from asked import chats

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
# Left to itself, it keeps a core free, which is half of two.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{os.cpu_count() - 1}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("questions", type=Path)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    from vllm import LLM, SamplingParams

    engine = LLM(model=options.model, dtype="bfloat16", max_model_len=1024)
    asked = chats(options.questions)
    sampling = SamplingParams(
        n=options.group_size, temperature=1.0, max_tokens=options.max_new_tokens, ignore_eos=True, logprobs=0
    )
    rates = []
    for _ in range(options.repeats + 1):
        started = time.perf_counter()
        answers = engine.chat(asked, sampling, use_tqdm=False)
        tokens = sum(len(completion.token_ids) for answer in answers for completion in answer.outputs)
        rates.append(tokens / (time.perf_counter() - started))
    print("\n" + json.dumps({"tokens_per_second": statistics.median(rates[1:]), "all": rates[1:]}))


if __name__ == "__main__":
    main()
