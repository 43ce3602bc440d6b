"""PyTorch models of every kind, with the inputs that they take."""

import torch
from torch import nn


def images(count, seed=0):
    return torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))


def vectors(count, width=6, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def sequences(count, length=5, width=8, seed=0):
    return torch.randn(count, length, width, generator=torch.Generator().manual_seed(seed))


class Convolutional(nn.Module):
    """Convolutions and linear layers in nested containers, and a layer that is defined late."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(20, 3)
        self.features = nn.Sequential(
            nn.Conv2d(1, 10, 3),
            nn.BatchNorm2d(10),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(10, 20, 3),
            nn.ELU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        return self.last(self.pool(self.features(x)).flatten(1))


class Shared(nn.Module):
    """One layer at two places of a pass."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(6, 6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.dense(torch.tanh(self.dense(x)))))


class Encoder(nn.Module):
    """A small transformer encoder with an embedding by convolution, as for images."""

    def __init__(self, batch_first=True, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            8, 2, 20, dropout=0.0, batch_first=batch_first, **options
        )
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x, **options):
        return self.head(self.encoder(x, **options))


class Recurrent(nn.Module):
    """An LSTM, and linear layers on every one of its steps."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.lstm = nn.LSTM(8, 11, batch_first=batch_first)
        self.head = nn.Linear(11, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


MODELS = {
    "convolutional": (Convolutional, images, ["Conv2d", "Linear", "BatchNorm2d", "ReLU", "ELU"]),
    "shared": (Shared, vectors, ["Linear"]),
    "encoder": (
        Encoder,
        sequences,
        ["Linear", "MultiheadAttention", "LayerNorm", "TransformerEncoderLayer"],
    ),
    "recurrent": (Recurrent, sequences, ["LSTM", "Linear"]),
}


def built(name, count=50):
    """A model with settled statistics, in evaluation mode, its inputs, and what to attach to."""
    torch.manual_seed(7)
    make_model, make_inputs, attach_to = MODELS[name]
    model, x = make_model(), make_inputs(count)
    model(x[:8])
    return model.eval(), x, attach_to


def first_tensor(output):
    return output[0] if isinstance(output, tuple) else output


def spied(model, x, attach_to, moment="after"):
    """What each matching module puts out (or takes), in the order of the calls, by plain hooks."""
    seen, handles = {}, []
    for path, module in model.named_modules():
        if type(module).__name__ not in attach_to:
            continue
        suffix = "_states" if moment == "after" else "_pre_states"

        def note(module, args, *output, name=path + suffix):
            again = sum(key.startswith(name) for key in seen)
            value = first_tensor(output[0]) if output else args[0]
            seen[name + (f"_{again}" if again else "")] = value.detach().clone()

        before = moment == "before"
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        handles.append(register(note))
    try:
        with torch.no_grad():
            outputs = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, seen
