"""Data through a network until they end or somebody stops it, and all of it committed then."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tensorstate.capture import remove_state_layers
from tensorstate.cli.data import instances_in, part_of_batch
from tensorstate.cli.loading import first_line
from tensorstate.cli.networks import Network
from tensorstate.cli.options import in_options
from tensorstate.counting.progress import Advance

__all__ = ["check_passes", "record"]


def check_passes(network: Network, batch: Any, data: str) -> None:
    """Pass an instance through the model as it is, before anything is written.

    Raises
    ------
    ValueError
        If the model does not take it.
    """
    try:
        network.check(part_of_batch(batch, 0, network.batch_size or 1))
    except Exception as error:
        raise ValueError(
            f"the model does not take what is in {data}: {first_line(error)}"
        ) from error


def record(network: Network, model: Any, batches: Iterable[Any], advance: Advance) -> bool:
    """Pass batches through an efficiency model, and commit what it recorded.

    SIGINT (Ctrl-C) and SIGTERM let it finish the batch that it is at; a second one breaks off.

    Parameters
    ----------
    network : Network
        How to pass a batch.
    model
        The efficiency model; it is closed, also after an error.
    batches : iterable
        The data.
    advance : callable
        Told how many instances went through, after each batch.

    Returns
    -------
    bool
        Whether the data ended; False if a signal stopped it.

    Raises
    ------
    ValueError
        If the model fails.
    OSError
        If the data cannot be read, or the run cannot be written.
    """
    with _stop_signals() as stop:
        try:
            for batch in batches:
                _run(network, model, batch)
                advance(instances_in(batch))
                if stop.is_set():
                    return False
            return True
        finally:
            remove_state_layers(model)


def _run(network: Network, model: Any, batch: Any) -> None:
    try:
        network.run(model, batch)
    except (OSError, MemoryError):
        raise
    except ValueError as error:
        raise ValueError(in_options(first_line(error))) from error
    except Exception as error:
        raise ValueError(f"the model failed: {first_line(error)}") from error


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Set an event at the first signal to stop; a second one is a KeyboardInterrupt."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
