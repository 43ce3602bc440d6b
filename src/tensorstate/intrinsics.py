"""The few machine operations that Python cannot express, for use in kernels."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import sys
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_I8, _I32, _I64, _I128 = (ir.IntType(bits) for bits in (8, 32, 64, 128))


@intrinsic
def folded_product(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the high word of the 128-bit product of two uint64, xor its low word."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = [builder.zext(arg, _I128) for arg in args]
        product = builder.mul(*wide)
        high = builder.trunc(builder.lshr(product, ir.Constant(_I128, 64)), _I64)
        return builder.xor(builder.trunc(product, _I64), high)

    return types.uint64(types.uint64, types.uint64), codegen


def _make_prefetch(for_writing: int) -> Any:
    @intrinsic
    def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            struct = context.make_array(signature.args[0])(context, builder, args[0])
            stride = builder.extract_value(struct.strides, 0)
            start = builder.ptrtoint(struct.data, _I64)
            call_prefetch(builder, builder.add(start, builder.mul(args[1], stride)), for_writing)
            return context.get_dummy_value()

        return types.void(array, types.intp), codegen

    return prefetch


# Ask for the cache line of ``array[index]`` (C-contiguous; index along the first axis), which may
# lie beyond the end: to read it, or to change it.
prefetch_to_read, prefetch = (_make_prefetch(for_writing) for for_writing in (0, 1))


@intrinsic
def prefetch_at(typingctx: Any, address: Any) -> Any:
    """Ask for the cache line at an address (uint64), which need not be a valid one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        call_prefetch(builder, args[0], for_writing=1)
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


def call_prefetch(builder: Any, address: Any, for_writing: int) -> None:
    """Ask for the cache line at an address (i64), in an intrinsic."""
    function_type = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
    keep_in_all_caches, data = _I32(3), _I32(1)
    pointer = builder.inttoptr(address, _I8.as_pointer())
    builder.call(function, [pointer, _I32(for_writing), keep_in_all_caches, data])


def _make_load(bits: int) -> Any:
    @intrinsic
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            integer = ir.IntType(bits)
            value = builder.load(builder.inttoptr(args[0], integer.as_pointer()))
            value.align = 1
            return builder.zext(value, _I64) if bits < 64 else value

        return types.uint64(types.uint64), codegen

    return load


# Little-endian loads of 2, 4 and 8 bytes at any address, zero-extended to uint64.
load16, load32, load64 = (_make_load(bits) for bits in (16, 32, 64))


@intrinsic
def popcount(typingctx: Any, word: Any) -> Any:
    """Return how many bits of a uint64 are set."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """Turn an address (int64) into the untyped pointer that `numba.carray` takes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


def _export_xxh3() -> bool:
    """Make the XXH3_128bits of the xxhash wheel known to LLVM; False where it cannot be."""
    returns_in_two_registers = platform.machine() in ("x86_64", "aarch64", "arm64")
    if sys.platform == "win32" or not returns_in_two_registers:
        return False
    try:
        wheel = importlib.util.find_spec("xxhash._xxhash")
        library = ctypes.CDLL(wheel.origin if wheel else None)
        address = ctypes.cast(library.XXH3_128bits, ctypes.c_void_p).value
    except (ImportError, OSError, AttributeError):
        return False
    llvmlite.binding.add_symbol("XXH3_128bits", address)
    return True


HAS_XXH3 = _export_xxh3()


@intrinsic
def xxh3_128(typingctx: Any, address: Any, length: Any) -> Any:
    """Return the (low, high) words of XXH3-128 of `length` bytes at `address`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        # The C struct {low, high} comes back in two registers, as this literal struct does.
        pair = ir.LiteralStructType([_I64, _I64])
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(pair, [_I64, _I64]), "XXH3_128bits"
        )
        digest = builder.call(function, args)
        words = [builder.extract_value(digest, word) for word in (0, 1)]
        return context.make_tuple(builder, signature.return_type, words)

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), codegen
