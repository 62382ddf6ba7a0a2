"""Traces of spot availability: a folder of JSON files, one a pool, read whole and refused with a sentence where they are not sound.

A file holds ``available`` (or ``data``): a list with 1 where the pool had capacity in that tick, else 0; ``metadata.gap_seconds``, the
length of a tick; and, where they are known, ``spot_usd_per_h`` (one price a tick) and ``metadata.on_demand_usd_per_h``.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Prices of p3.2xlarge in the simulator of "Can't Be Late" (their k = 3.1446), for traces that name none.
ON_DEMAND_USD_PER_H, SPOT_USD_PER_H = 3.06, 0.9731
_ZONE = re.compile(r"([a-z]{2}(?:-[a-z]+)+-[0-9]+)[a-z]")


class TraceError(ValueError):
    """The traces cannot be used; says which, why, and what would do."""


@dataclass(frozen=True)
class Pool:
    """One pool's record. Prices in dollars an hour, one a tick."""

    name: str
    zone: str
    gap_s: float
    available: NDArray[np.bool_]
    spot_usd_per_h: NDArray[np.float64]
    on_demand_usd_per_h: float

    @property
    def region(self) -> str:
        """The zone without its letter; what is no zone's name is a region of its own."""
        found = _ZONE.fullmatch(self.zone)
        return found.group(1) if found else self.zone


@dataclass(frozen=True)
class World:
    """Pools that one run may use together: of one gap and one length, side by side tick for tick."""

    name: str
    pools: tuple[Pool, ...]

    @property
    def gap_s(self) -> float:
        return self.pools[0].gap_s

    @property
    def ticks(self) -> int:
        return len(self.pools[0].available)

    @property
    def on_demand_usd_per_h(self) -> float:
        """Of the cheapest pool: on-demand is always to be had."""
        return min(pool.on_demand_usd_per_h for pool in self.pools)


def load(folder: Path) -> list[Pool]:
    """Every pool of the folder, by file name. Raises TraceError."""
    if not folder.is_dir():
        raise TraceError(f"{folder} is no folder. --traces takes a folder with one JSON file a pool.")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        below = sorted({str(path.parent) for path in folder.glob("*/*.json")})
        hint = f" Folders below it that have some: {', '.join(below)}." if below else ""
        raise TraceError(f"{folder} holds no *.json, so there is no trace to replay.{hint}")
    return [_read(path) for path in paths]


def half_of(pool: Pool, which: str) -> Pool:
    """The ``first`` half of the trace, on which the knobs were tuned, or the ``second``, on which they were not."""
    middle = len(pool.available) // 2
    part = slice(middle) if which == "first" else slice(middle, None)
    return replace(pool, available=pool.available[part], spot_usd_per_h=pool.spot_usd_per_h[part])


def worlds(pools: list[Pool], together: str) -> list[World]:
    """``each``: every pool is a world; ``region``: every region is one; ``all``: one of all pools. Raises TraceError."""
    groups: dict[str, list[Pool]] = {}
    for pool in pools:
        groups.setdefault({"each": pool.name, "region": pool.region, "all": "all"}[together], []).append(pool)
    return [_side_by_side(name, group) for name, group in groups.items()]


def _side_by_side(name: str, pools: list[Pool]) -> World:
    gaps = sorted({pool.gap_s for pool in pools})
    if len(gaps) > 1:
        raise TraceError(f"The pools of {name} were probed every {' and '.join(f'{gap:g}' for gap in gaps)} s; pools that one run uses together need one gap.")
    ticks = min(len(pool.available) for pool in pools)
    cut = tuple(replace(pool, available=pool.available[:ticks], spot_usd_per_h=pool.spot_usd_per_h[:ticks]) for pool in pools)
    return World(name, tuple(sorted(cut, key=lambda pool: pool.name)))


def _read(path: Path) -> Pool:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TraceError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise TraceError(f"{path} is no trace: it needs an object `metadata` with `gap_seconds`.")
    metadata: dict[str, Any] = document["metadata"]
    gap_s = _positive(path, "metadata.gap_seconds", metadata.get("gap_seconds"))
    series = document.get("available", document.get("data"))
    if not isinstance(series, list) or not series:
        raise TraceError(f"{path} needs a list `available` (or `data`) with 1 for each tick in which the pool had capacity, else 0.")
    odd = next((index for index, value in enumerate(series) if value not in (0, 1)), None)
    if odd is not None:
        raise TraceError(f"{path}: tick {odd} is {series[odd]!r}; a tick is 1 (available) or 0.")
    on_demand = _positive(path, "metadata.on_demand_usd_per_h", metadata.get("on_demand_usd_per_h", ON_DEMAND_USD_PER_H))
    return Pool(
        name=path.stem,
        zone=str(metadata.get("zone") or path.stem.split("_")[0]),
        gap_s=gap_s,
        available=np.array(series, dtype=bool),
        spot_usd_per_h=_prices(path, document.get("spot_usd_per_h"), len(series), on_demand * SPOT_USD_PER_H / ON_DEMAND_USD_PER_H),
        on_demand_usd_per_h=on_demand,
    )


def _positive(path: Path, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise TraceError(f"{path}: {what} is {value!r}; it must be a number above 0.")
    return float(value)


def _prices(path: Path, found: Any, ticks: int, otherwise: float) -> NDArray[np.float64]:
    """The prices of the trace, a gap in them filled with the last one known; the paper's ratio where it has none at all."""
    if found is None:
        return np.full(ticks, otherwise)
    if not isinstance(found, list) or len(found) != ticks:
        raise TraceError(f"{path}: spot_usd_per_h must be a list with one price for each of the {ticks} ticks.")
    last = next((price for price in found if price is not None), otherwise)
    prices = []
    for index, price in enumerate(found):
        last = last if price is None else _positive(path, f"spot_usd_per_h[{index}]", price)
        prices.append(last)
    return np.array(prices)
