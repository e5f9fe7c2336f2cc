"""The compiled arithmetic against float64 references; without a processor that has a matrix unit, nothing runs here."""

import pytest
import torch

from r1kit.models import compiled_head, layer
from r1kit.models.attention import Scope, attend, attend_backward
from r1kit.models.compiled import compiled_arithmetic
from r1kit.models.head import Head, chosen_stats
from r1kit.models.packing import pack
from r1kit.models.policy import Policy

pytestmark = pytest.mark.skipif(compiled_arithmetic() is None, reason="no compiler, or no matrix unit for bfloat16")
ROUNDING = 2.0**-8


@pytest.fixture
def arithmetic():
    return compiled_arithmetic()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def gap(found, expected):
    """The distance, relative to the norm of what was expected."""
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(1, 32, 32), (31, 64, 96), (33, 96, 1000), (70, 40, 64), (200, 160, 704)])
def test_products_are_those_of_float64(arithmetic, shape):
    rows, columns, depth = shape
    left, weight, added, bias = (
        random(rows, depth),
        random(columns, depth, seed=1),
        random(rows, columns, seed=2),
        random(columns, seed=3),
    )
    expected = left.double() @ weight.double().T

    right = arithmetic.right_transposed(weight)
    assert gap(arithmetic.product(left, right, bias_N=bias, added_MN=added), expected + bias + added) < ROUNDING
    assert gap(arithmetic.wide_product(left, right, torch.empty(rows, columns)), expected) < 1e-5
    plain = arithmetic.right(weight.T.contiguous())
    assert gap(arithmetic.wide_product(left, plain, torch.empty(rows, columns)), expected) < 1e-5


@pytest.mark.parametrize("shape", [(1, 32, 32), (37, 64, 96), (700, 96, 64)])
def test_gradients_of_weights_are_added_to_what_is_there(arithmetic, shape):
    tokens, outputs, inputs = shape
    gradient, given = random(tokens, outputs), random(tokens, inputs, seed=1)
    sums = torch.full((outputs, inputs), 3.0)

    arithmetic.add_product(arithmetic.left_transposed(gradient), arithmetic.right(given), sums)

    assert gap(sums, gradient.double().T @ given.double() + 3) < 1e-5


def test_a_product_reads_and_writes_parts_of_wider_matrices(arithmetic):
    wide, weight = random(40, 96), random(64, 32, seed=1)
    out = torch.zeros(40, 128)

    arithmetic.wide_product(wide[:, 32:64], arithmetic.right_transposed(weight), out[:, 64:])

    assert gap(out[:, 64:], wide[:, 32:64].double() @ weight.double().T) < 1e-5
    assert out[:, :64].abs().max() == 0


def test_norms_and_gates_have_the_gradients_of_autograd(arithmetic):
    given, weight, added = random(50, 64), random(64, seed=1), random(50, 64, seed=2)
    gradient = random(50, 64, seed=3).float()
    given_64, weight_64 = (tensor.double().requires_grad_() for tensor in (given, weight))
    normed = given_64 * (given_64.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight_64
    normed.backward(gradient.double())
    found = torch.zeros(64)

    of_input = arithmetic.norm_backward(gradient, given, weight, 1e-5, added_RW=added, weight_gradient_W=found)

    assert gap(arithmetic.norm(given, weight, 1e-5), normed.detach()) < ROUNDING
    assert gap(of_input, given_64.grad + added) < ROUNDING
    assert gap(found, weight_64.grad) < 1e-5

    both_64, of_gated = random(50, 128, seed=4).double().requires_grad_(), random(50, 64, seed=5)
    gate, up = both_64.chunk(2, 1)
    gated = torch.nn.functional.silu(gate) * up
    gated.backward(of_gated.double())
    out, of_both = arithmetic.gate_backward(both_64.detach().bfloat16(), of_gated)
    assert gap(out, gated.detach()) < ROUNDING
    assert torch.equal(out, arithmetic.gate(both_64.detach().bfloat16()))
    assert gap(of_both, both_64.grad) < ROUNDING


def packed_rows(prompts, lengths):
    """Rows of these lengths behind their prompts."""
    width = max(len(prompt) + length for prompt, length in zip(prompts, lengths, strict=True))
    token_ids, mask = (
        torch.zeros(len(lengths), width, dtype=torch.long),
        torch.zeros(len(lengths), width, dtype=torch.bool),
    )
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        token_ids[row, : len(prompt)] = torch.tensor(prompt)
        mask[row, len(prompt) : len(prompt) + length] = True
    return pack(token_ids, mask)


@pytest.mark.parametrize("window", [None, 5, 300])
@pytest.mark.parametrize("lengths", [(3, 1, 7, 40, 2), (33, 150, 5, 64, 129), (257, 600, 5, 1, 290), (1100,)])
def test_attention_and_its_gradients_are_those_of_float64(arithmetic, window, lengths):
    prompts = [(1, 2, 3), (1, 2, 3), (1, 2, 3), (4, 5), (6, 7)][: len(lengths)]
    scope = Scope(packed_rows(prompts, lengths), 0.3, window)
    num_tokens = len(scope.packing.token_ids_N)
    together, gradient = random(num_tokens, (4 + 2 + 2) * 32), random(num_tokens, 4 * 32, seed=1)
    heads = [part.unflatten(1, (-1, 32)) for part in together.split((128, 64, 64), 1)]
    exact = [part.double() for part in heads]

    out, normalisers = arithmetic.attend(tuple(heads), scope)
    found = torch.full_like(together, torch.nan)
    into = tuple(part.unflatten(1, (-1, 32)) for part in found.split((128, 64, 64), 1))
    arithmetic.attend_backward(gradient, tuple(heads), scope, (out, normalisers), into)

    assert gap(out, attend(*exact, scope).flatten(1)) < 2 * ROUNDING
    for part, expected in zip(
        into, attend_backward(gradient.double().view(-1, 4, 32), tuple(exact), scope), strict=True
    ):
        assert gap(part, expected) < 3 * ROUNDING


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("asks_entropy", [False, True])
def test_the_heads_figures_and_gradients_are_those_of_float64(temperature, asks_entropy):
    hidden, weight = random(45, 64) / 4, random(1312, 64, seed=1)
    targets = torch.randint(1312, (45,), generator=torch.Generator().manual_seed(2))
    weighing = random(2, 45, seed=3).double()

    def losses(hidden_ND, weight_VD, sink):
        figures = chosen_stats(hidden_ND, targets, Head(weight_VD, None, temperature, sink))
        ((figures[0] * weighing[0]).sum() + asks_entropy * (figures[1] * weighing[1]).sum()).backward()
        return figures

    exact = [tensor.double().requires_grad_() for tensor in (hidden, weight)]
    expected = losses(*exact, None)
    hidden.requires_grad_()
    sums = torch.zeros(weight.shape)
    assert compiled_head.arithmetic_of(hidden, weight, None) is not None
    found = losses(hidden, weight, lambda: sums)

    for figure, other in zip(found, expected, strict=True):
        assert float((figure.detach() - other.detach()).abs().max()) < 1e-4
    assert gap(hidden.grad, exact[0].grad) < 2 * ROUNDING
    assert gap(sums, exact[1].grad) < 2 * ROUNDING


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_a_network_of_compiled_layers_has_the_gradients_of_torchs_operators(make_policy, architecture, monkeypatch):
    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
    }
    policy = make_policy(architecture, vocab_size=736, **shape)
    token_ids = torch.randint(600, (6, 30), generator=torch.Generator().manual_seed(0))
    token_ids[1::2, :6] = token_ids[::2, :6]
    mask = torch.arange(30).expand(6, 30) >= 6

    def gradients(dtype, **options):
        trained = Policy(policy.model, policy.tokenizer, compute_dtype=dtype)
        for parameter in trained.model.parameters():
            parameter.grad = None
        stats = trained.token_stats(token_ids, mask, temperature=1.0, **options)
        (stats.logprobs_BT * torch.linspace(-1, 1, 6)[:, None]).sum().backward()
        return {name: parameter.grad.clone() for name, parameter in trained.model.named_parameters()}

    calls = []
    monkeypatch.setattr(layer.CompiledLayer, "forward", counting(layer.CompiledLayer.forward, calls))
    exact, found = gradients(torch.float32), gradients(torch.bfloat16)
    again = gradients(torch.bfloat16, recomputes_layers=True)
    assert len(calls) >= policy.model.config.num_hidden_layers
    for module in (layer, compiled_head):
        monkeypatch.setattr(module, "arithmetic_of", lambda *_: None)
    by_operators = gradients(torch.bfloat16)

    for name, expected in exact.items():
        rounding = gap(by_operators[name], expected.double())
        assert 0 < gap(found[name], expected.double()) < max(1.5 * rounding, 0.03), name
        assert torch.equal(found[name], again[name]), name


def counting(function, calls):
    def counted(*arguments):
        calls.append(1)
        return function(*arguments)

    return staticmethod(counted)
