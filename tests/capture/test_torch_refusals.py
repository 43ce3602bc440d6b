"""What PyTorch can hand to a capture that holds no plain batch of numbers: each with its reason."""

import numpy as np
import pytest
import torch
from torch import nn

import tensorstate as ts
from tests.capture.torch_models import vectors


class Giving(nn.Module):
    """Turns its input into something else."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def nested(layout):
    return lambda x: torch.nested.nested_tensor([x[:2], x[:3]], layout=layout)


def quantized(x):
    return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


REFUSED = {
    "nested": (nested(torch.strided), ValueError, "nested tensor, .*: record a padded one"),
    "jagged": (nested(torch.jagged), ValueError, "nested tensor, .*: record a padded one"),
    "coo": (torch.Tensor.to_sparse, ValueError, "torch.sparse_coo tensor, .* no plain values"),
    "csr": (torch.Tensor.to_sparse_csr, ValueError, "torch.sparse_csr tensor, .* no plain values"),
    "quantized": (quantized, ValueError, "quantized tensor, .* no plain values"),
    "complex": (torch.fft.fft, TypeError, "holds torch.complex64, but activations are real"),
    "no neurons": (lambda x: x[:, :0], ValueError, r"shape \(5, 0\), without any neuron"),
    "a scalar": (torch.sum, ValueError, r"needs instances on axis 0 .* shape \(\)"),
}


@pytest.mark.filterwarnings("ignore")  # PyTorch's, on what is in beta
@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_batch_of_numbers_is_refused_and_nothing_is_recorded(kind, by_hand):
    function, error, says = REFUSED[kind]
    model = nn.Sequential(Giving(function))
    if by_hand:
        capture = ts.StateCaptureHook("a").attach(model[0])
        where = "the output of a Giving at capture 'a'"
    else:
        (capture,) = ts.build_efficiency_model(model, "Giving").efficiency_layers
        where = r"the output of module '0' \(Giving\)"
    with pytest.raises(error, match=says) as raised:
        model(vectors(5))
    if kind != "a scalar":
        raised.match(where)
    assert capture.state_count == 0
    capture.capture_on = False
    model(vectors(5))


def mapped(model, x):
    return torch.func.vmap(model)(x)


def differentiated(model, x):
    return torch.func.grad(lambda x: model(x).sum())(x)


def forward_differentiated(model, x):
    return torch.func.jvp(model, (x,), (torch.ones_like(x),))


@pytest.mark.parametrize("transform", [mapped, differentiated, forward_differentiated])
def test_inside_of_torch_func_a_capture_is_refused_unless_it_is_off(transform):
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    x = vectors(5)
    expected = transform(model, x)
    (capture,) = ts.build_efficiency_model(model, "Linear").efficiency_layers
    with pytest.raises(ValueError, match=r"inside of a transformation of torch.func, .*: set"):
        transform(model, x)
    assert capture.state_count == 0
    capture.capture_on = False
    for found, plain in zip(transform(model, x), expected, strict=True):
        torch.testing.assert_close(found, plain, rtol=0, atol=0)
    capture.capture_on = True
    model(x)
    assert capture.instance_count == 5


def test_a_plain_pass_after_a_refusal_is_recorded():
    functions = iter([torch.Tensor.to_sparse, torch.abs])
    model = nn.Sequential(Giving(lambda x: next(functions)(x)))
    (capture,) = ts.build_efficiency_model(model, "Giving").efficiency_layers
    with pytest.raises(ValueError, match="no plain values"):
        model(vectors(5))
    model(vectors(7))
    np.testing.assert_array_equal(capture.raw_states[:], np.full((7, 1), 0b111111))
