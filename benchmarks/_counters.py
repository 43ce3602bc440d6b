"""The ways to count distinct states that are compared: ours, and those of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

U8Array = npt.NDArray[np.uint8]
Result = tuple[npt.NDArray[np.int64], ...]

JOBS = ("counts", "counts and first rows")
WITHOUT_AVX512 = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR AVX512_SKX"}


class Counter(NamedTuple):
    """A way to count.

    Attributes
    ----------
    prepare
        From (rows, W) uint8 and a number of threads to what `count` takes.
    count
        Returns the counts of the distinct rows, in any order; and the first of the rows that
        each of them has, aligned with the counts, if these are the job.
    threads
        How many threads it can use.
    environment
        Variables that its process needs.
    """

    prepare: Callable[[U8Array, int], Any]
    count: Callable[[Any], Any]
    threads: int = 1
    environment: Mapping[str, str] = MappingProxyType({})


# Ours


def prepare_tensorstate(rows: Any, threads: int) -> Any:
    import dask

    from tensorstate.counting import count_states

    dask.config.set(scheduler="threads", num_workers=threads)
    # Load the compiled kernels, as the others have theirs loaded.
    count_states(rows[:300_000])
    return rows


def count_tensorstate(rows: U8Array) -> Result:
    from tensorstate.counting import count_states

    histogram = count_states(rows)
    return histogram.counts, histogram.first_rows


# The others


def words(rows: U8Array) -> list[npt.NDArray[np.uint64]]:
    """Split rows into columns of uint64, the last one zero-extended."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // 8) * 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    columns = padded.view(np.uint64)
    return [np.ascontiguousarray(columns[:, c]) for c in range(columns.shape[1])]


def as_binary(rows: U8Array) -> Any:
    import pyarrow as pa

    width = pa.binary(rows.shape[1])
    return pa.Array.from_buffers(width, len(rows), [None, pa.py_buffer(rows)])


def prepare_duckdb(rows: U8Array, threads: int) -> Any:
    import duckdb
    import pyarrow as pa

    if rows.shape[1] <= 16:
        arrays = [pa.array(column) for column in words(rows)]
    else:
        arrays = [as_binary(rows)]
    names = [f"w{column}" for column in range(len(arrays))]
    connection = duckdb.connect(config={"threads": threads})
    connection.register("arrow", pa.table(arrays, names=names))
    connection.execute("CREATE TABLE states AS SELECT * FROM arrow")
    connection.unregister("arrow")
    return connection, ", ".join(names)


def count_duckdb(prepared: Any) -> Result:
    connection, names = prepared
    query = f"SELECT {names}, count(*) AS n FROM states GROUP BY {names}"
    return (as_int64(connection.execute(query).to_arrow_table()["n"]),)


def first_rows_duckdb(prepared: Any) -> Result:
    connection, names = prepared
    query = f"SELECT {names}, count(*) AS n, min(rowid) AS first FROM states GROUP BY {names}"
    found = connection.execute(query).to_arrow_table()
    return as_int64(found["n"]), as_int64(found["first"])


def prepare_polars(rows: U8Array, threads: int) -> Any:
    import polars as pl

    if rows.shape[1] <= 16:
        columns = {f"w{c}": column for c, column in enumerate(words(rows))}
        frame = pl.DataFrame(columns)
    else:
        import pyarrow as pa

        frame = pl.DataFrame({"w0": pl.from_arrow(as_binary(rows).cast(pa.large_binary()))})
    return frame.with_row_index("row")


def count_polars(frame: Any) -> Result:
    import polars as pl

    found = frame.group_by(pl.exclude("row")).agg(n=pl.len())
    return (as_int64(found["n"]),)


def first_rows_polars(frame: Any) -> Result:
    import polars as pl

    found = frame.group_by(pl.exclude("row")).agg(n=pl.len(), first=pl.col("row").min())
    return as_int64(found["n"]), as_int64(found["first"])


def prepare_pyarrow(rows: U8Array, threads: int) -> Any:
    import pyarrow as pa

    pa.set_cpu_count(threads)
    states = pa.array(words(rows)[0]) if rows.shape[1] <= 8 else as_binary(rows)
    return pa.table({"state": states, "row": np.arange(len(rows))})


def count_pyarrow(table: Any) -> Result:
    import pyarrow.compute as pc

    return (as_int64(pc.value_counts(table["state"]).field("counts")),)


def first_rows_pyarrow(table: Any) -> Result:
    found = table.group_by("state").aggregate([("row", "count"), ("row", "min")])
    return as_int64(found["row_count"]), as_int64(found["row_min"])


def prepare_pandas(rows: U8Array, threads: int) -> Any:
    import pandas as pd

    if rows.shape[1] <= 16:
        columns: dict[str, Any] = dict(zip("ab", words(rows), strict=False))
    else:
        columns = {"a": pd.Series([row.tobytes() for row in rows], dtype=object)}
    return pd.DataFrame({**columns, "row": np.arange(len(rows))})


def count_pandas(frame: Any) -> Result:
    *names, _ = frame.columns
    if len(names) == 1:
        return (as_int64(frame["a"].value_counts(sort=False)),)
    return (as_int64(frame.groupby(names, sort=False).size()),)


def first_rows_pandas(frame: Any) -> Result:
    *names, row = frame.columns
    found = frame.groupby(names, sort=False)[row].agg(["size", "min"])
    return as_int64(found["size"]), as_int64(found["min"])


def prepare_unique(rows: U8Array, threads: int) -> Any:
    return words(rows)[0] if rows.shape[1] <= 8 else rows.view(f"V{rows.shape[1]}").ravel()


def count_unique(rows: Any) -> Result:
    return (as_int64(np.unique(rows, return_counts=True)[1]),)


def first_rows_unique(rows: Any) -> Result:
    _, first, counts = np.unique(rows, return_index=True, return_counts=True)
    return as_int64(counts), as_int64(first)


def as_int64(column: Any) -> npt.NDArray[np.int64]:
    return np.asarray(column, dtype=np.int64)


COUNTERS = {
    JOBS[0]: {
        "tensorstate": Counter(prepare_tensorstate, count_tensorstate, 64),
        "duckdb": Counter(prepare_duckdb, count_duckdb, 64),
        "polars": Counter(prepare_polars, count_polars, 64),
        "pyarrow": Counter(prepare_pyarrow, count_pyarrow),
        "pandas": Counter(prepare_pandas, count_pandas),
        "numpy": Counter(prepare_unique, count_unique),
        "numpy without AVX-512": Counter(prepare_unique, count_unique, 1, WITHOUT_AVX512),
    },
    JOBS[1]: {
        "tensorstate": Counter(prepare_tensorstate, count_tensorstate, 64),
        "duckdb": Counter(prepare_duckdb, first_rows_duckdb, 64),
        "polars": Counter(prepare_polars, first_rows_polars, 64),
        "pyarrow": Counter(prepare_pyarrow, first_rows_pyarrow, 64),
        "pandas": Counter(prepare_pandas, first_rows_pandas),
        "numpy": Counter(prepare_unique, first_rows_unique),
        "numpy without AVX-512": Counter(prepare_unique, first_rows_unique, 1, WITHOUT_AVX512),
    },
}
"""By job: what a run ends with."""
