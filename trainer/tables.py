"""Prepared rows on disk: one Arrow stream for a set of rows, written as they come and mapped into memory when read.

datasets opens such a file where it lies, and a page of it is in memory only while it is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobspec.data import Format
from jobspec.formats import with_prompt
from jobspec.marker import FailureCode
from trainer.failures import TrainerFailure
from trainer.tokens import Encoded

_BATCH_ROWS = 1000
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TOKENS = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


class Table(Protocol):
    """Takes rows one at a time."""

    def add(self, encoded: Encoded) -> None: ...


@contextmanager
def new_table(path: Path, data_format: Format, *, spoken: bool) -> Iterator[Table]:
    """A table for rows of that format: token ids and labels, or the text columns that TRL's trainer of the method takes."""
    if data_format == "prompt":
        loose = _LooseTable()
        yield loose
        loose.write(path)
        return
    text = _MESSAGES if spoken else pa.string()
    schemas = {
        "preference": pa.schema([("prompt", text), ("chosen", text), ("rejected", text)]),
        "binary-preference": pa.schema([("prompt", text), ("completion", text), ("label", pa.bool_())]),
    }
    schema = schemas.get(data_format, _TOKENS)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        table = _StreamedTable(stream, schema)
        yield table
        table.flush()


def _columns(encoded: Encoded, names: list[str]) -> dict[str, Any]:
    if names == _TOKENS.names:
        sequence = encoded.sequences[0]
        return {"input_ids": sequence.ids, "labels": sequence.labels}
    row = with_prompt(encoded.row.value) if "chosen" in names else encoded.row.value
    return {name: _trimmed(row[name]) for name in names}


def _trimmed(value: Any) -> Any:
    """Messages without what Dropforge does not read: a template sees role and content, here and in TRL."""
    return [{"role": message["role"], "content": message["content"]} for message in value] if isinstance(value, list) else value


class _StreamedTable:
    def __init__(self, stream: Any, schema: Any) -> None:
        self._stream, self._schema = stream, schema
        self._rows: list[dict[str, Any]] = []

    def add(self, encoded: Encoded) -> None:
        self._rows.append(_columns(encoded, self._schema.names))
        if len(self._rows) == _BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class _LooseTable:
    """Rows whose further columns are the user's: what types they have is known at the end."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._tables: list[Any] = []

    def add(self, encoded: Encoded) -> None:
        row = encoded.row.value
        self._rows.append({**row, "prompt": _trimmed(row["prompt"])})
        if len(self._rows) == _BATCH_ROWS:
            self._settle(encoded.row.where)

    def write(self, path: Path) -> None:
        self._settle("the last rows")
        try:
            whole = pa.concat_tables(self._tables, promote_options="permissive") if self._tables else pa.table({"prompt": []})
        except pa.ArrowException as error:
            raise _mixed("its columns", error) from None
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, whole.schema) as stream:
            stream.write_table(whole, max_chunksize=_BATCH_ROWS)

    def _settle(self, where: str) -> None:
        if not self._rows:
            return
        try:
            names = {name: None for row in self._rows for name in row}
            self._tables.append(pa.table({name: [row.get(name) for row in self._rows] for name in names}))
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise _mixed(f"{where} or up to {_BATCH_ROWS} rows before", error) from None
        self._rows = []


def _mixed(where: str, error: Exception) -> TrainerFailure:
    return TrainerFailure(
        FailureCode.DATA_INVALID,
        f"{where}: a column holds values of more than one type ({str(error).splitlines()[0][:200]}); make each column all texts or all numbers.",
    )


def open_table(path: Path) -> Any:
    """The rows as datasets.Dataset, mapped from disk."""
    from datasets import Dataset  # type: ignore[import-untyped]  # ships no types

    return Dataset.from_file(str(path))


def lengths_of(rows: Any) -> npt.NDArray[np.int64]:
    """Tokens of each row of a token table (datasets.Dataset), read batch by batch."""
    batches = rows.with_format("arrow").iter(batch_size=10 * _BATCH_ROWS)
    return np.concatenate([pc.list_value_length(batch["input_ids"]).to_numpy(zero_copy_only=False) for batch in batches]).astype(np.int64)
