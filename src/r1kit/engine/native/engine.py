"""The embedded engine: continuous batching on any causal language model of `transformers`, in this process.

Each step admits waiting requests into free slots (prefilling each distinct prompt once for all admitted together),
advances all running rows by one token in one forward pass, and gives the slots of finished rows to others. Weights are
the policy's own, not a copy.

N: running rows   V: vocabulary   T: tokens sampled so far
"""

from collections import deque
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from r1kit.engine.engine import Piece, Request
from r1kit.engine.native.budget import CacheBudget
from r1kit.engine.native.forward import forward_of
from r1kit.engine.native.rows import Rows
from r1kit.engine.native.sampler import draw, uniforms
from r1kit.errors import RecipeError
from r1kit.models.policy import Policy
from r1kit.types import Completion, FinishReason


class NativeEngine:
    """Samples from a policy in this process; at most `max_sequences` rows run at once, the rest wait."""

    def __init__(self, policy: Policy, *, max_sequences: int = 256, cache_bytes: int | None = None) -> None:
        """Take the policy's weights; raise ModelError for networks whose cache is not plain keys and values.

        Keys and values take at most `cache_bytes`, by default a quarter of the machine's memory: where `max_sequences`
        completions could need more, fewer run at once.
        """
        self._max_sequences = max_sequences
        self.budget = CacheBudget.of(policy, cache_bytes)
        self._next_id = 0
        self._waiting: deque[tuple[int, Request]] = deque()
        self._rows: Rows | None = None
        self._forward = forward_of(policy)
        self._policy, self._version, self._sleeps = policy, 0, False

    def load_weights(self, policy: Policy, version: int) -> None:
        """Sample from this policy's weights, as they are now, from now on. Nothing may be running."""
        self._refuse_running("weights changed")
        self._forward = forward_of(policy, self._forward)
        self._policy = policy
        self._version = version
        self._sleeps = False

    def sleep(self) -> None:
        """Let go of the copies of weights and of the cache until `load_weights`. Nothing may be running."""
        self._refuse_running("the engine was put to sleep")
        self._forward.sleep()
        self._sleeps = True

    def _refuse_running(self, what: str) -> None:
        if self._rows is not None or self._waiting:
            raise RuntimeError(f"{what} under running completions; finish or cancel them first")

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """Queue requests; raise RecipeError for one whose prompt and completion exceed the model's positions."""
        if self._sleeps:
            raise RuntimeError("the engine sleeps; load weights first")
        limit = getattr(self._policy.model.config, "max_position_embeddings", None)
        for request in requests:
            length = len(request.prompt_token_ids) + request.sampling.max_new_tokens
            if not request.prompt_token_ids or request.sampling.max_new_tokens < 1:
                raise RecipeError("a request needs a prompt of at least one token, and max_new_tokens of at least 1")
            if limit is not None and length > limit:
                raise RecipeError(
                    f"a prompt of {len(request.prompt_token_ids)} tokens and max_new_tokens "
                    f"{request.sampling.max_new_tokens} make {length}, but the model has {limit} positions"
                )
        request_ids = list(range(self._next_id, self._next_id + len(requests)))
        self._next_id += len(requests)
        self._waiting.extend(zip(request_ids, requests, strict=True))
        return request_ids

    @torch.inference_mode()
    def cancel(self, request_ids: Sequence[int]) -> None:
        """Forget requests, waiting or running."""
        gone = set(request_ids)
        self._waiting = deque((id_, request) for id_, request in self._waiting if id_ not in gone)
        if self._rows is not None:
            running = torch.tensor([id_ not in gone for id_ in self._rows.request_ids])
            self._keep(self._rows, running)

    @torch.inference_mode()
    def step(self) -> list[Piece]:
        """Admit, advance by one token, report."""
        pieces = self._admit()
        if self._rows is not None:
            pieces += self._record(self._rows, self._decode(self._rows))
        return pieces

    def _admit(self) -> list[Piece]:
        """Prefill waiting requests into free slots, and draw their first token."""
        running = 0 if self._rows is None else len(self._rows.request_ids)
        free = min(len(self._waiting), self._max_sequences - running)
        if free <= 0:
            return []
        requests = [] if self._rows is None else self._rows.requests
        num_new = self.budget.num_admitted(requests, (request for _, request in islice(self._waiting, free)))
        if num_new == 0:
            return []
        new = [self._waiting.popleft() for _ in range(num_new)]
        prompts = list(dict.fromkeys(request.prompt_token_ids for _, request in new))
        index = {prompt: row for row, prompt in enumerate(prompts)}
        prompts_M = torch.tensor([index[request.prompt_token_ids] for _, request in new])
        rows = Rows.of(new, self._policy.vocab_size)
        logits_PV = self._forward.admit(prompts, prompts_M, running, rows.limits_N)
        self._rows = rows if self._rows is None else self._rows.joined(rows)
        return self._record(self._rows, logits_PV[prompts_M], first_row=running)

    def _decode(self, rows: Rows) -> Tensor:
        """The logits (N, V) after each running row's last token."""
        logits_NV = self._forward.advance(rows.last_tokens(), rows.lengths_N)
        rows.lengths_N += 1
        return logits_NV

    def _record(self, rows: Rows, logits_NV: Tensor, first_row: int = 0) -> list[Piece]:
        """Draw a token for the rows from `first_row` on, write it down, and let go of rows that have ended."""
        chosen = slice(first_row, None)
        counts_N = rows.counts_N[chosen]
        sampling = rows.sampling.select(chosen) if first_row else rows.sampling
        tokens_N, logprobs_N = draw(logits_NV, uniforms(rows.seeds_N[chosen], counts_N), sampling)
        rows.token_ids_NT[chosen].scatter_(1, counts_N[:, None], tokens_N[:, None])
        rows.logprobs_NT[chosen].scatter_(1, counts_N[:, None], logprobs_N[:, None])
        rows.counts_N[chosen] += 1
        pieces = [
            Piece(request_id=rows.request_ids[first_row + row], token_id=int(tokens_N[row]))
            for row, request in enumerate(rows.requests[first_row:])
            if request.stream
        ]
        ended_N = torch.zeros(len(rows.counts_N), dtype=torch.bool)
        ended_N[chosen] = torch.isin(tokens_N, self._end_token_ids())
        ended_N |= self._at_stop(rows, first_row)
        cut_N = rows.counts_N >= rows.limits_N
        for row in torch.nonzero(ended_N | cut_N)[:, 0].tolist():
            reason = FinishReason.STOP if ended_N[row] else FinishReason.LENGTH
            pieces.append(Piece(request_id=rows.request_ids[row], completion=self._completion(rows, row, reason)))
        self._keep(rows, ~(ended_N | cut_N))
        return pieces

    def _end_token_ids(self) -> Tensor:
        return torch.tensor([self._policy.tokenizer.eos_token_id])

    def _at_stop(self, rows: Rows, first_row: int) -> Tensor:
        """True (N,) for rows whose last token, or whose text's end, is one of their own stops."""
        last_N = rows.last_tokens()
        stops = [request.sampling.stop_token_ids for request in rows.requests]
        found_N = torch.zeros(len(stops), dtype=torch.bool)
        for stop_token_ids in set(stops[first_row:]) - {()}:
            # All rows of a run share their stops, so that this is one look at one tensor.
            is_theirs_N = torch.tensor([other == stop_token_ids for other in stops])
            found_N |= is_theirs_N & torch.isin(last_N, torch.tensor(stop_token_ids))
        found_N[:first_row] = False
        for row in range(first_row, len(stops)):
            stop = rows.requests[row].sampling.stop
            if stop and not found_N[row]:
                # A token holds at least one byte, so the longest stop string lies within that many tokens.
                tail = max(len(text.encode()) for text in stop)
                start = max(0, int(rows.counts_N[row]) - tail)
                text = self._policy.tokenizer.decode(rows.token_ids_NT[row, start : rows.counts_N[row]].tolist())
                found_N[row] = any(string in text for string in stop)
        return found_N

    def _completion(self, rows: Rows, row: int, reason: FinishReason) -> Completion:
        token_ids = tuple(rows.token_ids_NT[row, : rows.counts_N[row]].tolist())
        shown = token_ids[:-1] if self._is_end(token_ids[-1], rows.requests[row]) else token_ids
        return Completion(
            token_ids=token_ids,
            logprobs=tuple(rows.logprobs_NT[row, : rows.counts_N[row]].tolist()),
            text=self._policy.tokenizer.decode(shown),
            finish_reason=reason,
            policy_version=self._version,
        )

    def _is_end(self, token_id: int, request: Request) -> bool:
        """True for a control token that ended the request: it is no part of the text, as a stop like `</answer>` is."""
        tokenizer = self._policy.tokenizer
        if token_id == tokenizer.eos_token_id:
            return True
        added = tokenizer.added_tokens_decoder.get(token_id) if token_id in request.sampling.stop_token_ids else None
        return added is not None and added.special

    def _keep(self, rows: Rows, running_N: Tensor) -> None:
        """Let go of the other rows: the last running ones move into their slots, so that running rows stay together."""
        if bool(running_N.all()):
            return
        num_running = int(running_N.sum())
        kept_N = torch.arange(num_running)
        kept_N[~running_N[:num_running]] = torch.nonzero(running_N[num_running:])[:, 0] + num_running
        self._forward.keep(kept_N, rows.lengths_N[kept_N])
        self._rows = rows.select(kept_N) if num_running else None
