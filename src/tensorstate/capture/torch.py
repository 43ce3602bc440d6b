"""Hooks for PyTorch modules, and how a tensor reaches a recorder."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils.module_tracker import ModuleTracker

from tensorstate.capture.recorded import RecordedStates
from tensorstate.capture.recorder import StateRecorder
from tensorstate.capture.thresholds import Threshold
from tensorstate.capture.torch_copies import DeviceBatch, copies_of
from tensorstate.capture.torch_packing import TensorBatch, packed_order
from tensorstate.storage import QUEUE_BYTES, Codec, Histogram, StoreLike

__all__ = [
    "Hook",
    "NoHook",
    "StateCaptureHook",
    "has_instances_on_axis_1",
    "in_backward",
    "main_output",
    "record_tensor",
]

_ON_HOST_ONLY = (torch.uint16, torch.uint32, torch.uint64)
"""Dtypes that PyTorch stores, but compares on no accelerator."""


class NoHook:
    """A hook that does nothing: what a capture's hook becomes in a copy of its module."""

    def __call__(self, *_: Any) -> None:
        """Do nothing."""


class Hook:
    """A hook that belongs to one module of one model: no copy of it records.

    Models are copied for averages of their weights and pickled for files and other processes.
    A copy that went on recording into the run of the original would mix its states with theirs.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        return NoHook, ()


class StateCaptureHook(Hook, RecordedStates):
    """A forward hook that records which activations fire and changes nothing.

    It is attached to a module by `attach`, or by the module's own ``register_forward_hook`` (the
    output is recorded) or ``register_forward_pre_hook`` (the first positional input is).

    Parameters
    ----------
    name : str
        Name of the capture, unique in its run.
    disk_path : path, URL or Zarr store, optional
        Run to record into; captures with the same path share a run. Without it, states are kept in
        memory.
    threshold : float, sequence of float, or callable, default 0
        A neuron fires where its activation is strictly greater; see `StateRecorder`.
    channel_axis : int, default 1
        Axis of the activations that holds the neurons; axis 0 holds the instances. Convolutions
        have their channels on axis 1; transformers, recurrent layers and linear layers on
        sequences have their features on axis -1.
    mode, codec, queue_bytes, part, first_instance, histogram, variable_positions
        As for `build_efficiency_model`.

    Raises
    ------
    FileExistsError
        If the path holds a run already, and the mode does not say what to do with it.
    OSError
        If the path cannot be written.

    Notes
    -----
    Of a tuple or list, the first entry is recorded (the output of ``nn.MultiheadAttention`` and
    ``nn.LSTM``). A module of PyTorch that has ``batch_first=False`` has its instances on axis 1;
    they are moved to axis 0 before anything else, also before `channel_axis` is counted.

    A packed sequence, which needs `variable_positions`, is recorded in the order that its
    instances had before they were packed. Axes are counted as if it were padded: its features are
    on axis -1, and axis 1 holds the steps.

    Nothing is recorded from passes that compute no values (meta and fake tensors, tracing), nor
    from those inside of a backward pass, which repeat what gradient checkpointing did not keep.
    A module that was compiled and run before it got the hook does not know of it: `attach` makes
    PyTorch forget what is compiled (``torch.compiler.reset``), so that it is compiled anew.

    Copies of the module, by ``copy.deepcopy`` or a pickle, do not record.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(4, 3)
    >>> with StateCaptureHook("states").attach(layer) as capture:
    ...     outputs = layer(torch.ones(5, 4))
    >>> capture.instance_count, capture.neurons
    (5, 3)
    """

    def __init__(
        self,
        name: str,
        disk_path: StoreLike | None = None,
        threshold: Threshold = 0.0,
        channel_axis: int = 1,
        *,
        mode: str = "x",
        codec: Codec = "lz4",
        queue_bytes: int = QUEUE_BYTES,
        part: str | int | None = None,
        first_instance: int | None = None,
        histogram: Histogram = "stored",
        variable_positions: bool = False,
    ) -> None:
        self.name = name
        self._handles: list[Any] = []
        self._states = StateRecorder(
            name,
            disk_path,
            threshold,
            channel_axis,
            mode=mode,
            codec=codec,
            queue_bytes=queue_bytes,
            part=part,
            first_instance=first_instance,
            histogram=histogram,
            variable_positions=variable_positions,
        )

    @property
    def capture_on(self) -> bool:
        """Whether batches are recorded; takes effect at once, also in a compiled model."""
        return self._states.capture_on

    @capture_on.setter
    def capture_on(self, value: bool) -> None:
        self._states.capture_on = value

    def _recorder(self) -> StateRecorder:
        return self._states

    def attach(self, module: nn.Module, method: str = "after") -> StateCaptureHook:
        """Record what a module gives, or ("before") its first positional input; return this hook.

        Parameters
        ----------
        module : torch.nn.Module
            Any module.
        method : {"after", "before"}
            What to record.

        Raises
        ------
        ValueError
            If the method is unknown.
        """
        if method not in ("after", "before"):
            raise ValueError(f"unknown method {method!r}: choose one of 'after', 'before'")
        before = method == "before"
        register = module.register_forward_pre_hook if before else module.register_forward_hook
        self._handles.append(register(self))
        torch.compiler.reset()
        return self

    def remove(self) -> None:
        """Take the hook off the modules that it was attached to; what it recorded stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        torch.compiler.reset()

    def close(self) -> None:
        """Take the hook off, commit everything and end the recording of the whole run.

        Reading goes on working.
        """
        self.remove()
        super().close()

    # What is compiled calls this as it is: a tensor that is traced holds no values.
    @torch.compiler.disable
    def __call__(self, module: nn.Module, args: Any, *output: Any) -> None:
        """Record the output of a module, or in a pre-hook its first input."""
        if not self.capture_on or in_backward():
            return
        where = f"of a {type(module).__name__} at capture {self.name!r}"
        sequence_first = has_instances_on_axis_1(module)
        if output:
            tensor = main_output(output[-1])
            record_tensor(self._states, tensor, f"the output {where}", sequence_first)
        else:
            tensor = args[0] if args else None
            record_tensor(self._states, tensor, f"the input {where}", sequence_first)


def main_output(output: Any) -> Any:
    """Return the first entry of a tuple or list, which is what a module mainly puts out."""
    if isinstance(output, PackedSequence) or not isinstance(output, (tuple, list)) or not output:
        return output
    return output[0]


def record_tensor(
    recorder: StateRecorder, tensor: Any, what: object, instances_on_axis_1: bool = False
) -> None:
    """Record what a module took or gave.

    On the host the tensor's own memory is read, once. On any other device the states are packed
    there, and only packed states are copied to the host; on CUDA nobody waits for that but the
    thread that writes.

    Parameters
    ----------
    recorder : StateRecorder
        Where to.
    tensor : torch.Tensor or PackedSequence
        What to record.
    what : object
        Names it in an error, as text.
    instances_on_axis_1 : bool
        Whether axis 1 is to become axis 0.

    Raises
    ------
    TypeError
        If it holds no real numbers.
    ValueError
        If it is no tensor, or a tensor that is not laid out plainly in memory, or it has no axes
        of instances and neurons, or it is packed and all instances are to have the same length.
    """
    if isinstance(tensor, PackedSequence):
        _record_packed(recorder, tensor, what)
        return
    if _is_symbolic(tensor):
        return
    _check_plain(tensor, what)
    x = tensor.detach()
    if instances_on_axis_1:
        if x.ndim < 3:
            raise ValueError(
                f"{what} has the shape {tuple(x.shape)}, without an axis of instances: "
                "pass a batch of sequences, not one of them alone"
            )
        x = x.movedim(1, 0)
    if x.dtype in _ON_HOST_ONLY:
        x = x.cpu()
    axis = recorder.channel_axis_of(tuple(x.shape))
    recorder.record_batch(_batch_of(recorder, x if axis == x.ndim - 1 else x.movedim(axis, -1)))


def _record_packed(recorder: StateRecorder, packed: PackedSequence, what: object) -> None:
    """Record sequences of different lengths, in the order that they had before they were packed."""
    if not recorder.variable_positions:
        raise ValueError(
            f"{what} is a PackedSequence, whose instances differ in length: make the capture with "
            "variable_positions=True, or exclude the module"
        )
    if _is_symbolic(packed.data):
        return
    _check_plain(packed.data, what)
    x = packed.data.detach()
    lengths, steps = packed_order(packed)
    axis = recorder.channel_axis_of((len(lengths), int(lengths.max()), *x.shape[1:]))
    if axis == 1:
        raise ValueError(
            f"{what} is a PackedSequence, which has its steps and not its neurons on axis 1: make "
            "the capture with channel_axis=-1"
        )
    x = x.movedim(axis - 1, -1)[torch.from_numpy(steps).to(x.device)]
    lengths *= math.prod(x.shape[1:-1])
    recorder.record_batch(_batch_of(recorder, x.reshape(-1, x.shape[-1])), lengths)


def _batch_of(recorder: StateRecorder, x: torch.Tensor) -> TensorBatch:
    """Return activations, the neurons last, as a batch that is packed where it is."""
    if x.is_cuda:
        return DeviceBatch(x, copies_of(recorder.run, x.device), recorder.note_nans)
    return TensorBatch(x)


def in_backward() -> bool:
    """Whether the modules that run now run again, inside of a backward pass."""
    return bool(_tracker.is_bw)


_tracker = ModuleTracker()


def has_instances_on_axis_1(module: nn.Module) -> bool:
    """Whether a module of PyTorch takes and gives (sequence, instances, features)."""
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention, nn.Transformer)):
        return not module.batch_first
    if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
        return has_instances_on_axis_1(module.self_attn)
    if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
        return len(module.layers) > 0 and has_instances_on_axis_1(module.layers[0])
    return False


_ADVICE = "attach to a module that takes or gives a tensor, as one inside of it, or exclude it"


def _is_symbolic(tensor: Any) -> bool:
    """Whether a tensor stands for others that are to come, and holds no values."""
    if torch.jit.is_tracing() or torch.compiler.is_compiling():
        return True
    if isinstance(tensor, torch.Tensor):
        return isinstance(tensor, FakeTensor) or tensor.is_meta
    return type(tensor) is torch.fx.Proxy


def _check_plain(tensor: Any, what: object) -> None:
    """Raise what keeps something from being recorded that is no plain tensor of numbers."""
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{what} is a {type(tensor).__name__}, not a tensor: {_ADVICE}")
    if tensor.is_nested:
        raise ValueError(
            f"{what} is a nested tensor, whose instances differ in shape: record a padded one "
            "(nn.TransformerEncoder makes none with enable_nested_tensor=False)"
        )
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise ValueError(
            f"{what} is inside of a transformation of torch.func, where a batch is not one array: "
            "set capture_on to False there, and record a plain pass"
        )
    if tensor.layout is not torch.strided or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else str(tensor.layout)
        raise ValueError(f"{what} is a {kind} tensor, which has no plain values: {_ADVICE}")
    if tensor.is_complex():
        raise TypeError(f"{what} holds {tensor.dtype}, but activations are real numbers")
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        raise ValueError(
            f"{what} goes into a CUDA graph, whose replays run no hook: set capture_on to False "
            "there, and record a plain pass"
        )
    if tensor.ndim and 0 in tensor.shape[1:]:
        raise ValueError(f"{what} has the shape {tuple(tensor.shape)}, without any neuron in it")
