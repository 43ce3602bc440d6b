"""Hooks in a module that is compiled by PyTorch's default backend, with a compiler of C++."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate as ts
from tests.capture.torch_models import built, spied, vectors


def check_inductor():
    """Skip the tests if PyTorch cannot compile here."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        pytest.skip(f"torch.compile needs a compiler of C++: {error}")


def test_states_of_a_compiled_model_are_those_of_the_plain_one():
    check_inductor()
    model, x, attach_to = built("convolutional")
    plain, seen = spied(model, x, attach_to)
    captures = ts.build_efficiency_model(model, attach_to).efficiency_layers
    by_hand = ts.StateCaptureHook("features.4_states").attach(model.features[4])
    compiled = torch.compile(model)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), plain, rtol=1e-4, atol=1e-5)
    assert len(captures) == 6
    for capture in (*captures, by_hand):
        activation = np.moveaxis(seen[capture.name].numpy(), 1, -1)
        states = np.packbits(activation > 0, axis=-1, bitorder="little")
        found = np.asarray(capture.raw_states)
        assert capture.instance_count == len(x)
        # What is compiled adds in another order, which tells where an activation is almost zero.
        wrong = np.unpackbits(found ^ states.reshape(found.shape)).sum()
        assert wrong <= np.count_nonzero(np.abs(activation) < 1e-5)


def test_training_a_compiled_model_is_recorded():
    check_inductor()
    model = torch.compile(nn.Sequential(nn.Linear(6, 9), nn.ReLU()))
    ts.build_efficiency_model(model, "ReLU")
    for _ in range(2):
        model(vectors(16)).sum().backward()
    assert [c.instance_count for c in model.efficiency_layers] == [32]
