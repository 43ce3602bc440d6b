"""The interface of captures: the states of a layer, and control of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tensorstate.storage import HistogramCache, LayerInfo, LayerStates, PartReader, Spectrum

if TYPE_CHECKING:
    from tensorstate.capture.recorder import StateRecorder

__all__ = ["RecordedStates"]


class RecordedStates(LayerStates):
    """The interface of everything that records: `LayerStates`, and control of the recording.

    A capture may be used as a context manager, which closes it at the end.
    """

    capture_on: bool

    def _recorder(self) -> StateRecorder:
        raise NotImplementedError

    def _layer_info(self) -> LayerInfo | None:
        return self._recorder()._layer_info()

    def _parts(self) -> Sequence[PartReader]:
        return self._recorder()._parts()

    def _cache(self) -> HistogramCache | None:
        return self._recorder()._cache()

    def _known_spectrum(self) -> Spectrum | None:
        # To look into the store, everything would have to be committed first.
        return self._everything.spectrum_of_rows(self.state_count)

    @property
    def state_count(self) -> int:
        """States recorded so far, repeats included."""
        return self._recorder().state_count

    @property
    def instance_count(self) -> int:
        """Instances recorded so far."""
        return self._recorder().instance_count

    def flush(self) -> None:
        """Return when everything recorded so far is written and committed."""
        self._recorder().flush()

    def close(self) -> None:
        """Commit everything and end the recording of the whole run; reading goes on working."""
        self._recorder().close()

    def reset_states(self) -> None:
        """Forget every state of this layer, and go on recording from nothing."""
        self._recorder().reset_states()
        self._everything.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
