"""From a recipe to its loss: every objective, KL term, correction and weighting against a reference in plain loops.

The reference is float64 and knows nothing of torch. What stops a gradient is said by two points: `live`, which moves,
and `frozen`, which does not; so its finite differences are what the gradient has to be.

P: problems   G: completions a problem   B: completions   T: token positions
"""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from r1kit.models.policy import TokenStats
from r1kit.objectives.advantages import group_norm_advantages
from r1kit.recipe import parse_recipe
from r1kit.stages.objective import objective_loss, sampler_weights, token_weigher
from r1kit.training.batch import Batch

LENGTHS = [9, 4, 0, 1, 9, 6, 7, 5, 8]
HOLES = {4: [3, 4, 8], 5: [2], 8: [5]}
OBJECTIVES: dict[str, dict] = {
    "grpo": {"kind": "grpo"},
    "DAPO's clip": {"kind": "grpo", "clip_eps": 0.2, "clip_eps_high": 0.28},
    "R1's clip": {"kind": "grpo", "clip_eps": 10},
    "dual clip": {"kind": "grpo", "clip_eps": 0.2, "clip_eps_high": 3.0, "dual_clip": 1.3},
    "R1 as printed": {"kind": "grpo", "ratio": "sequence", "clip_eps": 0.5},
    "gspo": {"kind": "gspo", "clip_eps": 0.1, "clip_eps_high": 0.15},
    "gspo, dual clip": {"kind": "gspo", "clip_eps": 0.1, "clip_eps_high": 0.15, "dual_clip": 1.05},
    "cispo": {"kind": "cispo", "cap": 1.2, "floor": 0.9},
    "reinforce": {"kind": "reinforce"},
    "gmpo": {"kind": "gmpo", "log_clip_low": 0.2, "log_clip_high": 0.3},
    "sapo": {"kind": "sapo"},
}
KLS = [{}, *({"kl_coef": 0.1, "kl_estimator": name} for name in ("k1", "k2", "k3", "k3_corrected", "k3_straight"))]
LEVELS = ("token", "sequence", "sequence_mean")
CORRECTIONS: list[dict] = [
    *({"kind": "truncated", "level": level, "cap": 1.02} for level in LEVELS),
    *({"kind": "masked", "level": level, "low": 0.97, "high": 1.02} for level in LEVELS),
]
WEIGHTS = ["sequence_mean", "token_mean", "constant_length"]


def recipe_of(objective, *, correction=None, weights="sequence_mean"):
    table = {"kind": "zero", "tasks": [{"kind": "countdown"}], "sampling": {"max_new_tokens": 16}}
    table |= {"objective": objective, "token_weights": {"kind": weights}}
    return parse_recipe(table | ({"correction": correction} if correction else {}), source="test")


def odd_batch(recipe, *, scale=0.3, advantages=None) -> tuple[TokenStats, Batch]:
    """Completions that are full, short, empty, of one token and with holes; nonsense where nothing was sampled."""
    rng = np.random.default_rng(0)
    mask_BT = np.zeros((9, 11), dtype=bool)
    for row, length in enumerate(LENGTHS):
        mask_BT[row, 2 : 2 + length] = True
        mask_BT[row, HOLES.get(row, [])] = False
    new_BT = rng.normal(-2, 1, mask_BT.shape)

    def near(spread):
        return torch.from_numpy(np.where(mask_BT, new_BT + rng.normal(0, spread, mask_BT.shape), -7.0))

    old_BT, reference_BT = near(scale), near(0.5)
    sampler_BT = old_BT + torch.from_numpy(rng.normal(0, 0.1, mask_BT.shape))
    mask = torch.from_numpy(mask_BT)
    batch = Batch(
        token_ids_BT=torch.zeros(9, 11, dtype=torch.long),
        completion_mask_BT=mask,
        token_weights_BT=token_weigher(recipe, max_new_tokens=16)(mask.double()),
        advantages_B=torch.from_numpy(rng.normal(size=9) if advantages is None else np.asarray(advantages)),
        sampler_logprobs_BT=sampler_BT,
        old_logprobs_BT=old_BT,
        reference_logprobs_BT=reference_BT if recipe.objective.kl_coef else None,
    )
    entropy_BT = torch.from_numpy(rng.random(mask_BT.shape)).requires_grad_()
    return TokenStats(torch.from_numpy(new_BT).requires_grad_(), entropy_BT), batch


def loss_and_gradient(recipe, stats, batch):
    loss, watched = objective_loss(recipe, stats, batch)
    inputs = [stats.logprobs_BT, stats.live_entropy_BT]
    return loss.detach(), watched, torch.autograd.grad(loss, inputs, allow_unused=True)


# The reference: one completion, one token at a time.


def clip(x, low, high):
    return min(max(x, low), high)


def bounded(log_ratio):
    return clip(log_ratio, -20.0, 20.0)


def level_ratio(level, live, frozen, t):
    """live, frozen: the log-ratios of the sampled tokens, by position."""
    if level == "token":
        return math.exp(bounded(live[t]))
    if level == "sequence":
        return math.exp(bounded(sum(live.values())))
    mean = sum(frozen.values()) / len(frozen)
    return math.exp(bounded(mean)) * (math.exp(live[t] - frozen[t]) if abs(mean) <= 20 else 1.0)


def clipped_term(ratio, advantage, objective):
    term = min(ratio * advantage, clip(ratio, 1 - objective.clip_eps, 1 + objective.clip_high) * advantage)
    return max(term, objective.dual_clip * advantage) if objective.dual_clip and advantage < 0 else term


def surrogate_term(objective, live, frozen, logprob, advantage, t):
    kind = objective.kind
    if kind in ("grpo", "gspo"):
        level = objective.ratio if kind == "grpo" else "sequence_mean"
        return clipped_term(level_ratio(level, live, frozen, t), advantage, objective)
    if kind == "cispo":
        return clip(math.exp(bounded(frozen[t])), objective.floor, objective.cap) * advantage * logprob
    if kind == "reinforce":
        return advantage * logprob
    if kind == "gmpo":
        held = [
            {u: min(x, objective.log_clip_high) if advantage > 0 else max(x, -objective.log_clip_low) for u, x in side}
            for side in (live.items(), frozen.items())
        ]
        return level_ratio("sequence_mean", *held, t) * advantage
    temperature = objective.temperature_positive if advantage > 0 else objective.temperature_negative
    return 4 / temperature / (1 + math.exp(-temperature * (math.exp(bounded(live[t])) - 1))) * advantage


def kl_term(name, logprob, frozen_logprob, reference, old):
    d = bounded(reference - logprob)
    k2, k3 = (logprob - reference) ** 2 / 2, math.exp(d) - d - 1
    frozen_d, frozen_k2 = bounded(reference - frozen_logprob), (frozen_logprob - reference) ** 2 / 2
    return {
        "k1": logprob - reference,
        "k2": k2,
        "k3": k3,
        "k3_corrected": math.exp(bounded(logprob - old)) * k3,
        "k3_straight": math.exp(frozen_d) - frozen_d - 1 + k2 - frozen_k2,
    }[name]


def correction_weight(correction, ratios, t):
    if correction.kind == "none":
        return 1.0
    ratio = level_ratio(correction.level, ratios, ratios, t)
    if correction.kind == "truncated":
        return min(ratio, correction.cap)
    return ratio if correction.low <= ratio <= correction.high else 0.0


def token_weight(recipe, mask_BT, b):
    num_rows, length = len(mask_BT), int(mask_BT[b].sum())
    return {
        "sequence_mean": 1 / max(1, length) / num_rows,
        "token_mean": 1 / mask_BT.sum(),
        "constant_length": 1 / (num_rows * 16),
    }[recipe.token_weights.kind]


def reference_loss(recipe, batch, live_BT, frozen_BT, entropy_BT):
    objective, mask_BT = recipe.objective, batch.completion_mask_BT.numpy()
    old_BT, sampler_BT = batch.old_logprobs_BT.numpy(), batch.sampler_logprobs_BT.numpy()
    total = 0.0
    for b in range(len(mask_BT)):
        places = np.flatnonzero(mask_BT[b]).tolist()
        live, frozen = ({t: x[b, t] - old_BT[b, t] for t in places} for x in (live_BT, frozen_BT))
        mismatch = {t: old_BT[b, t] - sampler_BT[b, t] for t in places}
        advantage = float(batch.advantages_B[b])
        gone = sum(sampler_BT[b, t] - frozen_BT[b, t] for t in places) / max(1, len(places))
        is_left_out = objective.off_policy_delta and advantage < 0 and gone > objective.off_policy_delta
        for t in places:
            term = surrogate_term(objective, live, frozen, live_BT[b, t], advantage, t)
            term *= 0.0 if is_left_out else correction_weight(recipe.correction, mismatch, t)
            if objective.kl_coef:
                reference = float(batch.reference_logprobs_BT[b, t])
                kl = kl_term(objective.kl_estimator, live_BT[b, t], frozen_BT[b, t], reference, old_BT[b, t])
                term -= objective.kl_coef * kl
            term += objective.entropy_coef * entropy_BT[b, t]
            total += token_weight(recipe, mask_BT, b) * term
    return -total


def assert_is_the_reference(recipe, stats, batch):
    point_BT, entropy_BT = (x.detach().numpy() for x in (stats.logprobs_BT, stats.live_entropy_BT))
    loss, watched, (gradient_BT, entropy_gradient_BT) = loss_and_gradient(recipe, stats, batch)

    assert float(loss) == pytest.approx(reference_loss(recipe, batch, point_BT, point_BT, entropy_BT), rel=1e-11)
    expected_BT = np.zeros_like(point_BT)
    for place in np.ndindex(point_BT.shape):
        for step in (1e-6, -1e-6):
            moved_BT = point_BT.copy()
            moved_BT[place] += step
            expected_BT[place] += reference_loss(recipe, batch, moved_BT, point_BT, entropy_BT) / (2 * step)
    assert_close(gradient_BT.numpy(), expected_BT, rtol=1e-5, atol=1e-9)
    outside_BT = ~batch.completion_mask_BT
    assert bool((gradient_BT[outside_BT] == 0).all())
    assert set(map(tuple, (figure_BT.shape for figure_BT in watched.values()))) == {(9, 11)}
    if recipe.objective.entropy_coef:
        expected = -recipe.objective.entropy_coef * batch.token_weights_BT
        assert_close(entropy_gradient_BT, expected, rtol=1e-12, atol=0)
    else:
        assert entropy_gradient_BT is None
    return watched


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_every_objective_under_every_weighting_is_the_reference(name, weights):
    recipe = recipe_of(OBJECTIVES[name], weights=weights)
    watched = assert_is_the_reference(recipe, *odd_batch(recipe))
    if name not in ("reinforce", "sapo", "R1's clip"):
        assert 0 < float(watched["clip_share"][:, 2:].mean()) < 1


@pytest.mark.parametrize("name", ["grpo", "R1 as printed", "gspo", "cispo", "sapo"])
@pytest.mark.parametrize("kl", KLS, ids=lambda kl: kl.get("kl_estimator", "none"))
def test_every_kl_term_is_the_reference(name, kl):
    recipe = recipe_of(OBJECTIVES[name] | kl, weights="token_mean")
    watched = assert_is_the_reference(recipe, *odd_batch(recipe))
    assert ("kl" in watched) is bool(kl)


@pytest.mark.parametrize("name", ["grpo", "gspo", "cispo"])
@pytest.mark.parametrize("correction", CORRECTIONS, ids=lambda c: f"{c['kind']} {c['level']}")
def test_every_correction_is_the_reference(name, correction):
    recipe = recipe_of(OBJECTIVES[name] | {"kl_coef": 0.1}, correction=correction)
    watched = assert_is_the_reference(recipe, *odd_batch(recipe))
    assert 0 < float(watched["importance_cut_share"].mean()) < 1


def test_the_entropy_bonus_and_the_off_policy_mask_are_the_reference():
    recipe = recipe_of({"kind": "grpo", "entropy_coef": 0.01, "off_policy_delta": 0.05, "kl_coef": 0.1})
    watched = assert_is_the_reference(recipe, *odd_batch(recipe))
    assert 0 < float(watched["off_policy_share"].mean()) < 1


def everything(name, **more):
    return recipe_of(
        OBJECTIVES[name] | {"kl_coef": 0.1, "kl_estimator": "k3_corrected", "entropy_coef": 0.01} | more,
        correction={"kind": "truncated", "level": "sequence", "cap": 1.1},
        weights="token_mean",
    )


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("max_tokens", [1, 25])
def test_the_cut_into_microbatches_changes_neither_loss_nor_gradient(name, max_tokens):
    recipe = everything(name, off_policy_delta=0.05)
    stats, batch = odd_batch(recipe)
    whole, _, (gradient_BT, _) = loss_and_gradient(recipe, stats, batch)

    # Each microbatch is cut to its longest row, so the logprobs are found by the ids: here the row numbers.
    numbered = batch.select(range(9))
    ids_BT = torch.arange(9)[:, None].expand(numbered.token_ids_BT.shape).contiguous()
    parts = list(
        Batch(**{n: getattr(numbered, n) for n in numbered.__slots__} | {"token_ids_BT": ids_BT}).microbatches(
            max_tokens
        )
    )
    total, gradient_of_cut_BT = 0.0, torch.zeros_like(gradient_BT)
    for part in parts:
        rows, width = part.token_ids_BT[:, 0], part.token_ids_BT.shape[1]
        cut = TokenStats(
            *(x.detach()[rows, :width].requires_grad_() for x in (stats.logprobs_BT, stats.live_entropy_BT))
        )
        loss, _, (part_BT, _) = loss_and_gradient(recipe, cut, part)
        total += float(loss)
        gradient_of_cut_BT[rows, :width] = part_BT

    assert len(parts) > 2
    assert total == pytest.approx(float(whole), rel=1e-12)
    assert_close(gradient_of_cut_BT, gradient_BT, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_and_tokens_of_weight_0_get_exactly_no_gradient_whatever_stands_there(name):
    recipe = everything(name)
    stats, batch = odd_batch(recipe)
    weights_BT = batch.token_weights_BT.clone()
    weights_BT[[0, 7]] = 0
    _, _, gradients = loss_and_gradient(recipe, stats, batch.with_token_weights(weights_BT))
    for gradient_BT in gradients:
        assert bool((gradient_BT[weights_BT == 0] == 0).all())
        assert bool((gradient_BT[weights_BT > 0] != 0).any())


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_ratios_of_a_thousand_leave_loss_and_gradients_finite(name, dtype):
    recipe = everything(name)
    stats, batch = odd_batch(recipe, advantages=[1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0])
    shift_BT = torch.tensor([[1e3], [1e3], [0], [-1e3], [-1e3], [-1e3], [0], [1e3], [1e3]])
    logprobs_BT = (stats.logprobs_BT.detach() + shift_BT).to(dtype).requires_grad_()
    tensors = {n: getattr(batch, n) for n in batch.__slots__ if getattr(batch, n) is not None}
    batch = Batch(**{n: x.to(dtype) if x.is_floating_point() else x for n, x in tensors.items()})

    loss, watched, (gradient_BT, _) = loss_and_gradient(
        recipe, TokenStats(logprobs_BT, stats.live_entropy_BT.detach().to(dtype).requires_grad_()), batch
    )

    assert loss.isfinite() and gradient_BT.isfinite().all()
    assert all(figure_BT.isfinite().all() for figure_BT in watched.values())


@pytest.mark.parametrize("name", ["grpo", "DAPO's clip", "R1's clip", "dual clip", "R1 as printed", "gspo"])
def test_extreme_ratios_have_no_gradient_from_a_clipped_surrogate(name):
    recipe = recipe_of(OBJECTIVES[name])
    stats, batch = odd_batch(recipe, advantages=[1.0, -1.0] * 4 + [1.0])
    for shift in (1e3, -1e3):
        moved = TokenStats((stats.logprobs_BT.detach() + shift).requires_grad_(), stats.live_entropy_BT)
        _, _, (gradient_BT, _) = loss_and_gradient(recipe, moved, batch)
        assert bool((gradient_BT == 0).all())


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1])
def test_all_equal_groups_have_no_gradient_but_that_of_kl_and_entropy(name, reward):
    advantages_B = group_norm_advantages(torch.full((3, 3), reward)).flatten()
    plain = recipe_of(OBJECTIVES[name])
    stats, batch = odd_batch(plain, advantages=advantages_B.tolist())
    _, _, (gradient_BT, _) = loss_and_gradient(plain, stats, batch)
    assert bool((gradient_BT == 0).all())

    drawn = recipe_of(OBJECTIVES[name] | {"kl_coef": 0.1})
    _, _, (gradient_BT, _) = loss_and_gradient(drawn, *odd_batch(drawn, advantages=advantages_B.tolist()))
    assert bool((gradient_BT[batch.completion_mask_BT] != 0).all())


@pytest.mark.parametrize("correction", [{"kind": "none"}, *CORRECTIONS], ids=lambda c: c["kind"] + c.get("level", ""))
def test_where_the_samplers_logprobs_are_the_old_ones_every_weight_is_exactly_1(correction):
    recipe = recipe_of({"kind": "grpo"}, correction=correction)
    _, batch = odd_batch(recipe)
    weights_BT, cut_BT = sampler_weights(recipe, batch.sampler_logprobs_BT, batch)
    assert weights_BT.tolist() == [[1.0] * 11] * 9
    assert cut_BT.tolist() == [[0.0] * 11] * 9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_first_update_of_an_iteration_is_reinforce_with_a_baseline(name):
    recipe = recipe_of(OBJECTIVES[name])
    stats, batch = odd_batch(recipe)
    tensors = {n: getattr(batch, n) for n in batch.__slots__}
    _, watched, (gradient_BT, _) = loss_and_gradient(recipe, stats, Batch(**tensors | {"old_logprobs_BT": None}))
    weights_BT = batch.token_weights_BT
    if name == "R1 as printed":  # a completion is one action: every token's logprob moves all of its weight
        weights_BT = weights_BT.sum(-1, keepdim=True) * batch.completion_mask_BT
    assert_close(gradient_BT, -batch.advantages_B[:, None] * weights_BT, rtol=1e-12, atol=1e-16)
    assert bool((watched["clip_share"] == 0).all())
