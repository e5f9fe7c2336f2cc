"""The C form of a layer's and the head's arithmetic, for bfloat16 on processors with a matrix unit (AMX).

M, N, K: rows, columns, and what is summed over, of a matrix product   R: rows   W: their width
"""

import ctypes
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from r1kit.models.attention import Scope
from r1kit.models.compiling import compiled_library

EDGE = 32
"""Rows, columns and depth of products are filled up to a multiple of it."""
LANES = 16
"""Widths of rows must be a multiple of it."""
BFLOAT16, FLOAT32, ADDED = range(3)
TAKE_MEMORY = ("product", "attend", "attend_backward")
"""Functions that say whether memory for their scratch was missing."""
TASKS_OF_THREAD = 4
"""Where attention has fewer tasks for each thread, they are cut smaller."""


class Target(ctypes.Structure):
    """Where a product goes, as in products.c."""

    _fields_ = [
        ("out", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("bias", ctypes.c_void_p),
        ("added", ctypes.c_void_p),
        ("kind", ctypes.c_int),
    ]


class Heads(ctypes.Structure):
    """What attention reads, as in attending.h."""

    _fields_ = [
        ("query", ctypes.c_void_p),
        ("key", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("num_keys", ctypes.c_int64),
        ("group", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("scale", ctypes.c_float),
        ("window", ctypes.c_int64),
        ("parts", ctypes.c_int64),
        ("normalisers", ctypes.c_void_p),
        ("num_tokens", ctypes.c_int64),
    ]

    @classmethod
    def of(cls, heads: tuple[Tensor, Tensor, Tensor], scope: Scope, normalisers_HN: Tensor) -> "Heads":
        """Of queries, keys and values (N, heads, E) that stand side by side in each row."""
        query, key, _ = heads
        pointers = [tensor.data_ptr() for tensor in heads]
        group = query.shape[1] // key.shape[1]
        counts = query.stride(0), key.shape[1], group, query.shape[2]
        # Sequences that follow one another behind one prompt are one task.
        num_tasks = (scope.packing.families[0] + len(scope.packing.families) - 1) * key.shape[1]
        parts = group if num_tasks < TASKS_OF_THREAD * torch.get_num_threads() else 1
        place = normalisers_HN.data_ptr(), len(query)
        return cls(*pointers, *counts, scope.scale, scope.window or 0, parts, *place)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A factor as the matrix unit reads it."""

    data: Tensor
    length: int
    """N of a right factor, M of a left one."""
    depth: int
    """K."""


class Arithmetic:
    """The compiled functions. What they are given is bfloat16 unless said otherwise, its last axis in one piece."""

    def __init__(self, products: ctypes.CDLL, rowwise: ctypes.CDLL) -> None:
        """Take the two libraries."""
        pointer, count, real, whole = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
        packing = [count, count, pointer, count, pointer, whole]
        signatures = {
            "pack_right": packing,
            "pack_right_transposed": packing,
            "pack_left_transposed": packing,
            "product": [count, count, count, pointer, count, pointer, pointer, whole],
            "norm": [count, count, pointer, pointer, real, pointer, whole],
            "norm_backward": [count, count, *(pointer,) * 3, real, *(pointer,) * 4, whole],
            "gate": [count, count, pointer, pointer, whole],
            "gate_backward": [count, count, *(pointer,) * 4, whole],
            "rotate": [count, count, count, count, *(pointer,) * 3, real, whole],
            "attend": [pointer, count, pointer, pointer, count, whole],
            "attend_backward": [pointer, count, count, *(pointer,) * 4, count, *(pointer,) * 4, whole],
            "softmax_tile": [count, count, pointer, real, count, *(pointer,) * 5, whole],
            "softmax_tile_backward": [count, count, pointer, real, count, *(pointer,) * 6, whole],
        }
        self._functions = {}
        for name, arguments in signatures.items():
            function = getattr(products if hasattr(products, name) else rowwise, name)
            function.argtypes = arguments
            function.restype = whole if name in TAKE_MEMORY else None
            self._functions[name] = function

    def right(self, factor_KN: Tensor) -> LaidOut:
        """The right factor of a product."""
        return self._laid_out("pack_right", len(factor_KN), factor_KN.shape[1], factor_KN)

    def right_transposed(self, *factors_NK: Tensor) -> LaidOut:
        """The right factor from its transpose: the weights of linear layers, as these hold them, side by side.

        But for the last one, their lengths must be multiples of 32.
        """
        parts = [self._laid_out("pack_right_transposed", part.shape[1], len(part), part) for part in factors_NK]
        if len(parts) == 1:
            return parts[0]
        return LaidOut(torch.cat([part.data for part in parts]), sum(part.length for part in parts), parts[0].depth)

    def left_transposed(self, factor_KM: Tensor) -> LaidOut:
        """The left factor from its transpose: the gradient of a layer's output, for that of its weights."""
        return self._laid_out("pack_left_transposed", len(factor_KM), factor_KM.shape[1], factor_KM)

    def product(
        self, left: Tensor | LaidOut, right: LaidOut, *, bias_N: Tensor | None = None, added_MN: Tensor | None = None
    ) -> Tensor:
        """left @ right + bias + added, in bfloat16 (M, N)."""
        out_MN = torch.empty(_length(left), right.length, dtype=torch.bfloat16)
        self._multiply(left, right, Target(*_place(out_MN), _address(bias_N), _address(added_MN), BFLOAT16))
        return out_MN

    def wide_product(self, left: Tensor | LaidOut, right: LaidOut, out_MN: Tensor) -> Tensor:
        """left @ right in float32."""
        self._multiply(left, right, Target(*_place(out_MN), None, None, FLOAT32))
        return out_MN

    def add_product(self, left: Tensor | LaidOut, right: LaidOut, sum_MN: Tensor) -> None:
        """Add left @ right to a float32 matrix."""
        self._multiply(left, right, Target(*_place(sum_MN), None, None, ADDED))

    def norm(self, from_RW: Tensor, weight_W: Tensor, eps: float) -> Tensor:
        """RMS norm times a weight."""
        out_RW = torch.empty_like(from_RW)
        self._call("norm", *from_RW.shape, from_RW.data_ptr(), weight_W.data_ptr(), eps, out_RW.data_ptr())
        return out_RW

    def norm_backward(
        self,
        gradient_RW: Tensor,
        from_RW: Tensor,
        weight_W: Tensor,
        eps: float,
        *,
        added_RW: Tensor,
        weight_gradient_W: Tensor | None,
    ) -> Tensor:
        """Something added to the gradient of the norm's input; that of its output, and of the weight, are float32."""
        out_RW = torch.empty_like(from_RW)
        sums = torch.empty(torch.get_num_threads(), from_RW.shape[1])
        pointers = [tensor.data_ptr() for tensor in (gradient_RW, from_RW, weight_W)]
        others = [tensor.data_ptr() for tensor in (added_RW, out_RW, sums)]
        self._call("norm_backward", *from_RW.shape, *pointers, eps, *others, _address(weight_gradient_W))
        return out_RW

    def gate(self, gate_up_RW: Tensor) -> Tensor:
        """silu(gate) up, of the two side by side."""
        rows, width = gate_up_RW.shape[0], gate_up_RW.shape[1] // 2
        out_RW = gate_up_RW.new_empty(rows, width)
        self._call("gate", rows, width, gate_up_RW.data_ptr(), out_RW.data_ptr())
        return out_RW

    def gate_backward(self, gate_up_RW: Tensor, gradient_RW: Tensor) -> tuple[Tensor, Tensor]:
        """What the forward pass gave, and the gradients of gate and up side by side."""
        out_RW, of_both_RW = torch.empty_like(gradient_RW), torch.empty_like(gate_up_RW)
        pointers = [tensor.data_ptr() for tensor in (gate_up_RW, gradient_RW, out_RW, of_both_RW)]
        self._call("gate_backward", *gradient_RW.shape, *pointers)
        return out_RW, of_both_RW

    def rotate(self, heads_RW: Tensor, num_heads: int, cos_RE: Tensor, sin_RE: Tensor, *, backward: bool) -> None:
        """Rotary embedding of the first heads of each row, in place."""
        sign = -1.0 if backward else 1.0
        pointers = [tensor.data_ptr() for tensor in (heads_RW, cos_RE, sin_RE)]
        self._call("rotate", len(heads_RW), heads_RW.stride(0), num_heads, cos_RE.shape[1], *pointers, sign)

    def attend(self, heads: tuple[Tensor, Tensor, Tensor], scope: Scope) -> tuple[Tensor, Tensor]:
        """Softmax attention (N, H E) of queries, keys and values that stand side by side in each row.

        Also the logsumexp of the scores, float32 (H, N).
        """
        num_tokens, num_heads = heads[0].shape[:2]
        out_ND = torch.empty(num_tokens, heads[0][0].numel(), dtype=torch.bfloat16)
        normalisers_HN = torch.empty(num_heads, num_tokens)
        sequences_S4 = scope.packing.sequences_S4
        place = sequences_S4.data_ptr(), *_place(out_ND)
        self._call("attend", ctypes.byref(Heads.of(heads, scope, normalisers_HN)), len(sequences_S4), *place)
        return out_ND, normalisers_HN

    def attend_backward(
        self,
        grad_ND: Tensor,
        heads: tuple[Tensor, Tensor, Tensor],
        scope: Scope,
        attended: tuple[Tensor, Tensor],
        into: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """The gradients of queries, keys and values, written where tensors of the same strides say.

        `attended`: what `attend` gave.
        """
        packing, settings = scope.packing, Heads.of(heads, scope, attended[1])
        begins = torch.tensor(packing.families)
        sums = torch.zeros(len(grad_ND), 2 * heads[1][0].numel() * settings.parts)
        self._call(
            "attend_backward",
            ctypes.byref(settings),
            packing.families[0],
            len(begins) - 1,
            begins.data_ptr(),
            packing.sequences_S4.data_ptr(),
            grad_ND.data_ptr(),
            *_place(attended[0]),
            *(tensor.data_ptr() for tensor in (*into, sums)),
        )

    def softmax_tile(
        self, logits_RW: Tensor, temperature: float, start: int, targets_R: Tensor, sums: tuple[Tensor, ...]
    ) -> None:
        """Take a tile's float32 logits into the highest, mass, moment and chosen (R,) of each row."""
        pointers = [tensor.data_ptr() for tensor in (targets_R, *sums)]
        self._call("softmax_tile", *logits_RW.shape, logits_RW.data_ptr(), temperature, start, *pointers)

    def softmax_tile_backward(
        self, logits_RW: Tensor, temperature: float, start: int, figures: tuple[Tensor | None, ...], out_RW: Tensor
    ) -> Tensor:
        """The gradient of a tile's logits from targets, normalisers, entropies, and the gradients of the results."""
        pointers = [_address(tensor) for tensor in figures]
        place = logits_RW.data_ptr(), temperature, start
        self._call("softmax_tile_backward", *logits_RW.shape, *place, *pointers, out_RW.data_ptr())
        return out_RW

    def _laid_out(self, name: str, depth: int, length: int, factor: Tensor) -> LaidOut:
        data = factor.new_empty(_filled(depth) * _filled(length))
        self._call(name, depth, length, factor.data_ptr(), factor.stride(0), data.data_ptr())
        return LaidOut(data, length, depth)

    def _multiply(self, left: Tensor | LaidOut, right: LaidOut, target: Target) -> None:
        data, stride = (left.data, 0) if isinstance(left, LaidOut) else (left, left.stride(0))
        sizes = _length(left), right.length, right.depth
        self._call("product", *sizes, data.data_ptr(), stride, right.data.data_ptr(), ctypes.byref(target))

    def _call(self, name: str, *arguments: object) -> None:
        if self._functions[name](*arguments, torch.get_num_threads()):
            raise MemoryError(
                f"no memory is left for the scratch of {name!r} in the training step: lower "
                "run.max_tokens_per_microbatch or sampling.max_new_tokens"
            )


@lru_cache
def compiled_arithmetic() -> Arithmetic | None:
    """The functions, where there is a compiler and a processor with a matrix unit for bfloat16."""
    libraries = [compiled_library(f"models/{name}.c", BF16=1) for name in ("products", "rowwise")]
    products, rowwise = libraries
    if products is None or rowwise is None or not products.products_work():
        return None
    return Arithmetic(products, rowwise)


def _length(left: Tensor | LaidOut) -> int:
    return left.length if isinstance(left, LaidOut) else len(left)


def _place(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.stride(0)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _filled(size: int) -> int:
    return -(-size // EDGE) * EDGE
