"""Whether everything that a run says it has committed is there and whole; and what still is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tensorstate.counting.computing import compute
from tensorstate.counting.progress import Work
from tensorstate.counting.schedulers import Graph, find_scheduler, threads_if
from tensorstate.storage.arrays import DamagedChunkError
from tensorstate.storage.format import LayerInfo
from tensorstate.storage.offsets import StoredOffsets
from tensorstate.storage.part import PartReader
from tensorstate.storage.survey import ONLY_PART, RunSurvey

__all__ = ["Damage", "damage_table", "find_damage", "parts_without_digests", "whole_instances"]

_TASK_BYTES = 64 << 20
"""About so much of a part is checked by one task."""


@dataclass(frozen=True)
class Damage:
    """Something in a run that is not as it was written.

    Attributes
    ----------
    layer, part : str
        Where it is.
    chunk : int or None
        Which chunk of the part's states; None if it is not in one.
    first_instance, last_instance : int
        The instances that are lost in this layer by it.
    problem : str
        What is wrong.
    """

    layer: str
    part: str
    chunk: int | None
    first_instance: int
    last_instance: int
    problem: str


def find_damage(found: RunSurvey, progress: bool | None = None) -> list[Damage]:
    """Read every committed chunk of a run, in parallel, and tell what is damaged.

    A chunk is to be there, to pass its checksum and to have the digest that was committed, its
    unused bits are to be 0, and every layer is to have the instances that the run has committed.
    The same is asked of the counts of rows that were counted while they were captured, in place of
    their chunks.

    Parameters
    ----------
    found : RunSurvey
        What is stored.
    progress : bool, optional
        As for `count_states`.

    Returns
    -------
    list of Damage
        By layer, part and chunk.
    """
    damage = [*_missing_instances(found), *_damaged_offsets(found)]
    graph: Graph = {}
    name = f"verify-{uuid.uuid4().hex}"
    here, total = False, 0
    for layer, stored in found.layers.items():
        for part, reader in stored.parts.items():
            here = here or reader.in_memory
            what = (layer, part, reader, stored.info)
            if reader.counted.rows:
                graph[name, len(graph)] = (_damaged_counts, *what)
            rows = reader.chunks[0]
            chunks = range(reader.counted.rows // rows, -(-len(reader) // rows))
            total += len(chunks)
            step = max(_TASK_BYTES // (rows * reader.shape[1]), 1)
            for start in range(0, len(chunks), step):
                graph[name, len(graph)] = (_damaged_chunks, *what, chunks[start : start + step])
    with threads_if(here):
        work = Work("verifying", "chunks", total)
        if graph:
            damage += chain.from_iterable(
                compute(graph, [*graph], find_scheduler(), progress, work)
            )
    order = list(found.layers)
    return sorted(damage, key=lambda d: (order.index(d.layer), d.part, d.chunk or -1))


def damage_table(damage: list[Damage]) -> pd.DataFrame:
    """Lay damage side by side: a row for each, with the attributes of `Damage` as columns."""
    columns = [field.name for field in fields(Damage)]
    table = pd.DataFrame([astuple(some) for some in damage], columns=columns)
    return table.astype({"chunk": "Int64", "first_instance": "int64", "last_instance": "int64"})


def parts_without_digests(found: RunSurvey) -> list[str]:
    """Return the parts, each with its layer, whose chunks cannot be told from others."""
    return [
        f"{layer}/part-{part}"
        for layer, stored in found.layers.items()
        for part, reader in stored.parts.items()
        if reader.digests is None and len(reader) > reader.counted.rows
    ]


def whole_instances(found: RunSurvey, damage: list[Damage]) -> list[tuple[str, range]]:
    """Return the committed instances of each part that no damage touches, in any layer."""
    whole: list[tuple[str, range]] = []
    for part, committed in sorted(found.committed.items(), key=lambda item: item[1].start):
        lost = np.zeros(len(committed), np.bool_)
        for some in damage:
            if some.part == part:
                first = some.first_instance - committed.start
                lost[max(first, 0) : max(some.last_instance + 1 - committed.start, 0)] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[True], lost, [True]])))
        whole += [
            (part, range(committed.start + first, committed.start + last))
            for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        ]
    return whole


def _missing_instances(found: RunSurvey) -> Iterator[Damage]:
    """Yield what layers lack of the instances that the run, or the part, says it has."""
    for layer, stored in found.layers.items():
        for part, reader in stored.parts.items():
            said = found.alone if reader.instances is None else reader.instances
            has = len(reader.extents(stored.info.positions))
            if has < said:
                first = reader.first_instance
                problem = f"it has {has} instances, but {said} were committed"
                yield Damage(layer, part, None, first + has, first + said - 1, problem)
        # Of several writers, each may have layers of its own; one alone has all of them.
        if not (found.shared or stored.parts) and found.alone:
            problem = f"it has no states, but {found.alone} instances were committed"
            yield Damage(layer, ONLY_PART, None, 0, found.alone - 1, problem)


def _damaged_offsets(found: RunSurvey) -> Iterator[Damage]:
    """Yield the instances of which nobody knows any more which rows they have."""
    for layer, stored in found.layers.items():
        for part, reader in stored.parts.items():
            extents = reader.extents(stored.info.positions)
            if isinstance(extents, StoredOffsets) and len(extents):
                for lost, problem in extents.damage():
                    first, last = (reader.first_instance + lost[end] for end in (0, -1))
                    yield Damage(layer, part, None, first, last, problem)


def _damaged_chunks(
    layer: str, part: str, reader: PartReader, info: LayerInfo, chunks: range
) -> list[Damage]:
    """Read chunks of a part, and return what is damaged."""
    damage = []
    rows = reader.chunks[0]
    for chunk in chunks:
        begin = max(chunk * rows, reader.counted.rows)
        end = min((chunk + 1) * rows, len(reader))
        problem = _problem(reader, info, begin, end) if begin < end else ""
        if problem:
            instances = _instances_in(reader, info, begin, end)
            damage.append(Damage(layer, part, chunk, *instances, problem))
    return damage


def _damaged_counts(layer: str, part: str, reader: PartReader, info: LayerInfo) -> list[Damage]:
    """Read what counts the first rows of a part, and return what is damaged."""
    try:
        reader.counted.histogram(verify=True)
        reader.counted.spectrum()
    except DamagedChunkError as error:
        now = reader.reopened()
        if now is not None and now.counted != reader.counted:
            return _damaged_counts(layer, part, now, info)
        instances = _instances_in(reader, info, 0, reader.counted.rows)
        return [Damage(layer, part, None, *instances, str(error))]
    return []


def _instances_in(reader: PartReader, info: LayerInfo, begin: int, end: int) -> tuple[int, int]:
    """Return the numbers of the first and the last instance that rows of a part belong to."""
    extents = reader.extents(info.positions)
    try:
        first, last = extents.holding(begin, end)
    except (DamagedChunkError, ValueError):
        # Nothing tells any more which they are.
        first, last = 0, len(extents) - 1
    return reader.first_instance + first, reader.first_instance + last


def _problem(reader: PartReader, info: LayerInfo, begin: int, end: int) -> str:
    """Return what is wrong with the rows of a chunk; nothing if they are whole."""
    try:
        states = reader[begin:end]
    except DamagedChunkError as error:
        now = reader.reopened()
        was_counted = now is not None and now.counted.rows >= end
        return "" if was_counted else str(error)
    used = info.neurons % 8
    wrong: NDArray[np.bool_] = states[:, -1] >> used > 0 if used else np.zeros(0, np.bool_)
    if wrong.any():
        row = begin + int(wrong.argmax())
        return f"row {row} has bits set behind the last of {info.neurons} neurons"
    return ""
