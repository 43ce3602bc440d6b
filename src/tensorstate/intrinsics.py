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


def _export_xxh3(**names: str) -> bool:
    """Make functions of the xxhash wheel known to LLVM; False where they cannot be.

    Parameters
    ----------
    **names
        What LLVM is to call a function, and what the wheel does.
    """
    if sys.platform == "win32":
        return False
    try:
        wheel = importlib.util.find_spec("xxhash._xxhash")
        library = ctypes.CDLL(wheel.origin if wheel else None)
        addresses = {
            known: ctypes.cast(library[name], ctypes.c_void_p).value
            for known, name in names.items()
        }
    except (ImportError, OSError, AttributeError):
        return False
    for known, address in addresses.items():
        llvmlite.binding.add_symbol(known, address)
    return True


_RETURNS_IN_TWO_REGISTERS = platform.machine() in ("x86_64", "aarch64", "arm64")
HAS_XXH3 = _RETURNS_IN_TWO_REGISTERS and _export_xxh3(XXH3_128bits="XXH3_128bits")


_IN_LLVM = {types.int32: _I32, types.int64: _I64, types.uint64: _I64}


def _call(name: str, result: Any, *arguments: Any) -> Any:
    """Return what an intrinsic returns that calls a C function; addresses are uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_IN_LLVM[result], [_IN_LLVM[argument] for argument in arguments])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return result(*arguments), codegen


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


_STREAM = {
    name: name
    for name in (
        "XXH3_createState",
        "XXH3_freeState",
        "XXH3_64bits_reset",
        "XXH3_64bits_update",
        "XXH3_64bits_digest",
    )
}
# The wheels for x86-64 have one more function, which takes the widest registers that there are.
HAS_XXH3_STREAM = _export_xxh3(
    **_STREAM | {"XXH3_64bits_update": "XXH3_64bits_update_dispatch"}
) or _export_xxh3(**_STREAM)


@intrinsic
def xxh3_begin(typingctx: Any) -> Any:
    """Return the address of a new XXH3 state, which `xxh3_free` takes; 0 without memory for it."""
    return _call("XXH3_createState", types.uint64)


@intrinsic
def xxh3_free(typingctx: Any, state: Any) -> Any:
    """Free a state; returns 0."""
    return _call("XXH3_freeState", types.int32, types.uint64)


@intrinsic
def xxh3_reset(typingctx: Any, state: Any) -> Any:
    """Let a state begin XXH3-64 of nothing; returns 0."""
    return _call("XXH3_64bits_reset", types.int32, types.uint64)


@intrinsic
def xxh3_update(typingctx: Any, state: Any, address: Any, length: Any) -> Any:
    """Let `length` more bytes, at `address`, follow what a state has seen; returns 0."""
    return _call("XXH3_64bits_update", types.int32, types.uint64, types.uint64, types.uint64)


@intrinsic
def xxh3_digest(typingctx: Any, state: Any) -> Any:
    """Return XXH3-64 of what a state has seen."""
    return _call("XXH3_64bits_digest", types.uint64, types.uint64)


@intrinsic
def read_file(typingctx: Any, file: Any, address: Any, length: Any) -> Any:
    """Read up to `length` bytes, from where a file descriptor is, to `address`.

    Returns how many: 0 at the end of the file, and -1 for an error.
    """
    return _call("read", types.int64, types.int32, types.uint64, types.uint64)
