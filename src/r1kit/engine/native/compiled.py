"""The C form of `kernels`, where there is a compiler; torch's operators do the same elsewhere."""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from r1kit.engine.native.anatomy import Shape
from r1kit.engine.native.grouped_cache import GroupedCache
from r1kit.engine.native.kernels import Kernels, Step, TorchKernels
from r1kit.engine.native.packed import PackedLayer
from r1kit.models.compiling import compiled_library

MULTIPLE = 32
"""Widths are counted in so many numbers, the most that one instruction of today's processors takes."""
BF16 = {torch.float32: 0, torch.bfloat16: 1}


class StepStruct(ctypes.Structure):
    """What `attend` reads of a step and a layer, as in kernels.c."""

    _fields_ = [
        ("num_heads", ctypes.c_int64),
        ("own_keys", ctypes.c_void_p),
        ("own_values", ctypes.c_void_p),
        ("own_capacity", ctypes.c_int64),
        ("places", ctypes.c_void_p),
        ("prompt_keys", ctypes.c_void_p),
        ("prompt_values", ctypes.c_void_p),
        ("prompt_capacity", ctypes.c_int64),
        ("prompts", ctypes.c_void_p),
        ("prompt_lengths", ctypes.c_void_p),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("query_norm", ctypes.c_void_p),
        ("key_norm", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        ("scale", ctypes.c_float),
    ]


class CompiledKernels:
    """The kernels for one shape and precision."""

    def __init__(self, library: ctypes.CDLL, shape: Shape, dtype: torch.dtype) -> None:
        """Take a library that was compiled for them."""
        self._shape, self._dtype = shape, dtype
        pointer, count, real, threads = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
        self._add_and_norm, self._gate, self._attend = library.add_and_norm, library.gate, library.attend
        self._add_and_norm.argtypes = [count, count, pointer, pointer, pointer, real, pointer, threads]
        self._gate.argtypes = [count, count, pointer, pointer, threads]
        self._attend.argtypes = [pointer, count, pointer, pointer, pointer, count, pointer, threads]
        for function in (self._add_and_norm, self._gate, self._attend):
            function.restype = None

    def add_and_norm(self, residual_ND: Tensor, delta_ND: Tensor | None, weight_D: Tensor) -> Tensor:
        """Add a layer's output to the residual stream (float32, in place), and return its RMS norm (N, D)."""
        num_rows, width = residual_ND.shape
        out_ND = torch.empty(num_rows, width, dtype=self._dtype)
        delta = None if delta_ND is None else delta_ND.data_ptr()
        self._add_and_norm(
            num_rows,
            width,
            residual_ND.data_ptr(),
            delta,
            weight_D.data_ptr(),
            self._shape.eps,
            out_ND.data_ptr(),
            torch.get_num_threads(),
        )
        return out_ND

    def gated(self, gate_up_NI: Tensor) -> Tensor:
        """silu(gate) * up, of the two side by side."""
        num_rows, width = gate_up_NI.shape[0], gate_up_NI.shape[1] // 2
        out_NI = torch.empty(num_rows, width, dtype=self._dtype)
        self._gate(num_rows, width, gate_up_NI.data_ptr(), out_NI.data_ptr(), torch.get_num_threads())
        return out_NI

    def step(self, cache: GroupedCache, positions_N: Tensor, cos_SW: Tensor, sin_SW: Tensor) -> Step:
        """A step in which the tokens stand at these positions."""
        return CompiledStep(self._attend, self._shape, cache, positions_N, (cos_SW, sin_SW))


class CompiledStep:
    """A step of which each layer's rotation, storing and attention are one call."""

    def __init__(
        self,
        attend: Callable[..., None],
        shape: Shape,
        cache: GroupedCache,
        positions_N: Tensor,
        rotation: tuple[Tensor, Tensor],
    ) -> None:
        """Write down all that the layers have in common."""
        places_N = cache.own_positions(positions_N)
        self._attend, self._shape, self._cache = attend, shape, cache
        self._tasks_K = cache.sharing().tasks_K
        longest = int(positions_N.max()) + 1
        self._stride = longest + MULTIPLE
        self._scores = torch.empty(torch.get_num_threads(), shape.heads_per_key, self._stride)
        self._kept = (places_N, positions_N, rotation)  # what the pointers below point to
        self._struct = StepStruct(
            num_heads=shape.num_key_value_heads,
            own_capacity=cache.rows.length,
            places=places_N.data_ptr(),
            prompt_capacity=cache.prompts.length,
            prompts=cache.prompts_N.data_ptr(),
            prompt_lengths=cache.prompt_lengths_P.data_ptr(),
            cosines=rotation[0].data_ptr(),
            sines=rotation[1].data_ptr(),
            positions=positions_N.data_ptr(),
            eps=shape.eps,
            scale=shape.scale,
        )

    def attend(self, number: int, layer: PackedLayer, projected_NK: Tensor) -> Tensor:
        """What each head (N, K) reads, from queries, keys and values side by side. The keys and values are stored."""
        struct, cache = self._struct, self._cache
        struct.own_keys = cache.rows.keys[number].data_ptr()
        struct.own_values = cache.rows.values[number].data_ptr()
        struct.prompt_keys = cache.prompts.keys[number].data_ptr()
        struct.prompt_values = cache.prompts.values[number].data_ptr()
        struct.query_norm = None if layer.query_norm is None else layer.query_norm.data_ptr()
        struct.key_norm = None if layer.key_norm is None else layer.key_norm.data_ptr()
        out_NK = projected_NK.new_empty(len(projected_NK), self._shape.num_heads * self._shape.head_width)
        self._attend(
            ctypes.byref(struct),
            len(self._tasks_K),
            self._tasks_K.data_ptr(),
            projected_NK.data_ptr(),
            self._scores.data_ptr(),
            self._stride,
            out_NK.data_ptr(),
            torch.get_num_threads(),
        )
        return out_NK


def kernels_for(shape: Shape, hidden_size: int, dtype: torch.dtype) -> Kernels:
    """The compiled kernels where there is a compiler and the shape suits them, else torch's operators."""
    widths = (shape.head_width, shape.intermediate_size, hidden_size)
    if dtype not in BF16 or any(width % MULTIPLE for width in widths):
        return TorchKernels(shape, dtype)
    library = compiled_library(
        "engine/native/kernels.c", WIDTH=shape.head_width, GROUP=shape.heads_per_key, BF16=BF16[dtype]
    )
    return TorchKernels(shape, dtype) if library is None else CompiledKernels(library, shape, dtype)
