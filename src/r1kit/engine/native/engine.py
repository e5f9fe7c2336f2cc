"""The embedded engine: continuous batching on any causal language model of `transformers`, in this process.

Each step admits waiting requests into free slots (prefilling each distinct prompt once for all admitted together),
advances all running rows by one token in one forward pass, and gives the slots of finished rows to others. Weights are
the policy's own, not a copy.

N: running rows   V: vocabulary   T: tokens sampled so far
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PretrainedConfig

from r1kit.engine.engine import Piece, Request
from r1kit.engine.native.cache import SlotCache
from r1kit.engine.native.sampler import RowSampling, draw, uniforms
from r1kit.errors import ModelError, RecipeError
from r1kit.models.policy import Policy
from r1kit.types import Completion, FinishReason


@dataclass(slots=True)
class Rows:
    """The state of all running rows, one tensor a field, so that a step costs the same Python for one row or many."""

    request_ids: list[int]
    requests: list[Request]
    seeds_N: Tensor
    lengths_N: Tensor
    """Positions in the cache."""
    counts_N: Tensor
    """Tokens sampled so far."""
    limits_N: Tensor
    """`max_new_tokens` of each row."""
    token_ids_NT: Tensor
    logprobs_NT: Tensor
    sampling: RowSampling

    def select(self, kept_M: Tensor) -> "Rows":
        """Only some of the rows, in the given order."""
        kept = kept_M.tolist()
        return Rows(
            request_ids=[self.request_ids[row] for row in kept],
            requests=[self.requests[row] for row in kept],
            seeds_N=self.seeds_N[kept_M],
            lengths_N=self.lengths_N[kept_M],
            counts_N=self.counts_N[kept_M],
            limits_N=self.limits_N[kept_M],
            token_ids_NT=self.token_ids_NT[kept_M],
            logprobs_NT=self.logprobs_NT[kept_M],
            sampling=self.sampling.select(kept_M),
        )

    def joined(self, other: "Rows") -> "Rows":
        """These rows, then the other's."""
        width = max(self.token_ids_NT.shape[1], other.token_ids_NT.shape[1])
        return Rows(
            request_ids=self.request_ids + other.request_ids,
            requests=self.requests + other.requests,
            seeds_N=torch.cat([self.seeds_N, other.seeds_N]),
            lengths_N=torch.cat([self.lengths_N, other.lengths_N]),
            counts_N=torch.cat([self.counts_N, other.counts_N]),
            limits_N=torch.cat([self.limits_N, other.limits_N]),
            token_ids_NT=torch.cat([_widened(self.token_ids_NT, width), _widened(other.token_ids_NT, width)]),
            logprobs_NT=torch.cat([_widened(self.logprobs_NT, width), _widened(other.logprobs_NT, width)]),
            sampling=self.sampling.joined(other.sampling),
        )


def _widened(values_NT: Tensor, width: int) -> Tensor:
    return functional.pad(values_NT, (0, width - values_NT.shape[1]))


class NativeEngine:
    """Samples from a policy in this process; at most `max_sequences` rows run at once, the rest wait."""

    def __init__(self, policy: Policy, *, max_sequences: int = 256) -> None:
        """Share the policy's weights; raise ModelError for networks whose cache is not plain keys and values."""
        self._max_sequences = max_sequences
        self._next_id = 0
        self._waiting: deque[tuple[int, Request]] = deque()
        self._rows: Rows | None = None
        self._source: Policy | None = None
        self.load_weights(policy, 0)

    def load_weights(self, policy: Policy, version: int) -> None:
        """Sample from this policy from now on. Nothing may be running.

        The weights are shared, so it costs nothing, unless they are kept in another precision than they multiply in:
        then the engine holds a copy in that precision, since converting them at each token would cost more than the
        token.
        """
        if self._rows is not None or self._waiting:
            raise RuntimeError("weights changed under running completions; finish or cancel them first")
        _refuse_unusual_attention(policy)
        if policy.compute_dtype == policy.model.dtype:
            self._policy = policy
        elif self._source is policy:
            self._policy.load_weights(policy)
        else:
            self._policy = policy.converted(policy.compute_dtype)
        self._source = policy
        self._version = version
        self._cache = SlotCache(policy.model.config.num_hidden_layers)

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """Queue requests; raise RecipeError for one whose prompt and completion exceed the model's positions."""
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
        num_new = min(len(self._waiting), self._max_sequences - running)
        if num_new <= 0:
            return []
        new = [self._waiting.popleft() for _ in range(num_new)]
        prompts = list(dict.fromkeys(request.prompt_token_ids for _, request in new))
        logits_PV, prompt_cache = self._prefill(prompts)
        index = {prompt: row for row, prompt in enumerate(prompts)}
        prompt_rows_M = torch.tensor([index[request.prompt_token_ids] for _, request in new])
        slot_length = max(len(request.prompt_token_ids) + request.sampling.max_new_tokens for _, request in new)
        slots_M = torch.arange(running, running + num_new)
        self._cache.store_prompts(prompt_cache, slots_M, prompt_rows_M, slot_length)
        rows = self._new_rows(new)
        self._rows = rows if self._rows is None else self._rows.joined(rows)
        return self._record(self._rows, logits_PV[prompt_rows_M], first_row=running)

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, DynamicCache]:
        """The logits (P, V) after each prompt, and the keys and values of all, right-padded."""
        longest = max(map(len, prompts))
        padding = prompts[0][0]  # any token will do: it comes after all that counts
        token_ids = torch.tensor([[*prompt, *[padding] * (longest - len(prompt))] for prompt in prompts])
        cache = DynamicCache()
        hidden = self._policy.backbone(
            input_ids=token_ids.to(self._policy.device), past_key_values=cache, use_cache=True
        ).last_hidden_state
        last = torch.tensor([len(prompt) - 1 for prompt in prompts])
        return self._logits(hidden[torch.arange(len(prompts)), last]), cache

    def _decode(self, rows: Rows) -> Tensor:
        """The logits (N, V) after each running row's last token, whose key and value go into the cache."""
        positions_N = rows.lengths_N
        self._cache.set_positions(positions_N)
        last_N1 = rows.token_ids_NT.gather(1, rows.counts_N[:, None] - 1)
        seen_NS = torch.arange(int(positions_N.max()) + 1)[None, :] <= positions_N[:, None]
        # Additive, not boolean: plain ("eager") attention adds its mask to the scores.
        dtype = self._policy.model.dtype
        mask_NS = torch.zeros(seen_NS.shape, dtype=dtype).masked_fill(~seen_NS, torch.finfo(dtype).min)
        hidden = self._policy.backbone(
            input_ids=last_N1.to(self._policy.device),
            position_ids=positions_N[:, None].to(self._policy.device),
            # The two empty axes are heads and queries; a mask of four axes is taken as it is by every architecture.
            attention_mask=mask_NS[:, None, None, :].to(self._policy.device),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        rows.lengths_N = positions_N + 1
        return self._logits(hidden[:, 0])

    def _logits(self, hidden_ND: Tensor) -> Tensor:
        """Drawing, and all that is written down of a row, happens on the processor."""
        return self._policy.head(hidden_ND).cpu()

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
        last_N = rows.token_ids_NT.gather(1, rows.counts_N[:, None] - 1)[:, 0]
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
        if num_running == 0:
            self._rows = None
            return
        free_M = torch.nonzero(~running_N[:num_running])[:, 0]
        late_M = torch.nonzero(running_N[num_running:])[:, 0] + num_running
        kept_N = torch.arange(num_running)
        kept_N[free_M] = late_M
        if len(free_M):
            self._cache.move_slots(free_M, late_M, int(rows.lengths_N[late_M].max()))
        self._rows = rows.select(kept_N)

    def _new_rows(self, new: Sequence[tuple[int, Request]]) -> Rows:
        specs = [request.sampling for _, request in new]
        longest = max(spec.max_new_tokens for spec in specs)
        return Rows(
            request_ids=[id_ for id_, _ in new],
            requests=[request for _, request in new],
            seeds_N=torch.tensor([request.seed for _, request in new]),
            lengths_N=torch.tensor([len(request.prompt_token_ids) for _, request in new]),
            counts_N=torch.zeros(len(new), dtype=torch.long),
            limits_N=torch.tensor([spec.max_new_tokens for spec in specs]),
            token_ids_NT=torch.zeros(len(new), longest, dtype=torch.long),
            logprobs_NT=torch.zeros(len(new), longest),
            sampling=RowSampling.of(specs, self._policy.vocab_size),
        )


def _refuse_unusual_attention(policy: Policy) -> None:
    """Raise ModelError for networks on which plain slots would be silently wrong."""
    config = policy.model.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds == {"full_attention"} and not getattr(config, "layer_types", None) and _has_window(config):
        kinds = {"sliding_attention"}
    if kinds != {"full_attention"}:
        raise ModelError(f"{config.model_type}: layers of kind {', '.join(sorted(kinds))} are not supported yet")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("longrope", "dynamic"):
        # Its angles depend on the longest row of a batch, so a completion would depend on its neighbours.
        raise ModelError(f"{config.model_type}: rotary embedding of type {rope['rope_type']} is not supported yet")


def _has_window(config: PretrainedConfig) -> bool:
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)
