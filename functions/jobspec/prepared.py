"""Prepared data: rows tokenised, masked and checked once, kept beside the job; ``prepared.json`` is written last.

A folder whose files have these sizes and digests, and whose ``key`` is the one that the run computes itself, may be used
in place of the raw rows. Everything that decides what is in the files goes into the key.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from jobspec.base import Document, FileDigest, Finite, JobId, Sha256, Text
from jobspec.data import Format, Weight

PREPARED_MANIFEST_NAME = "prepared.json"
Count = Annotated[int, Field(ge=0, le=10**12)]


class DataFacts(Document):
    """What was counted; lengths in tokens, before anything was cut. ``supervised``: tokens that carry loss."""

    format: Format
    rows: Count
    held_out: Count
    tokens: Count
    supervised: Count
    supervised_lost: Count
    rows_cut: Count
    rows_dropped: Count
    #: Rows whose last supervised token is not the stop token, although nothing was cut.
    rows_without_stop: Count
    shortest: Count
    median: Count
    longest: Count
    #: Upper bound of a length to the number of rows up to it (and above the bound before); ``more`` for the longest.
    histogram: dict[Annotated[str, StringConstraints(max_length=12)], Count]


class Part(Document):
    """Rows that came of one file, in order, and how often each counts in an epoch."""

    rows: Count
    weight: Weight = 1.0


class Probe(Document):
    """The row whose answer is shown before and after training: what to show, and the text to go on from."""

    question: Text
    prompt: Annotated[str, StringConstraints(max_length=200_000)]
    special_tokens: bool


class PreparedManifest(Document):
    version: Literal[1] = 1
    job_id: JobId
    key: Sha256
    facts: DataFacts
    parts: tuple[Part, ...]
    #: Decoded rows, what carries loss between marks.
    samples: tuple[Text, ...]
    probe: Probe
    seconds: Finite
    files: tuple[FileDigest, ...]
