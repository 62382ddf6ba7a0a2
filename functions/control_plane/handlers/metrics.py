"""Metrics in CloudWatch's embedded metric format: one line in the log becomes metrics, without a call.

CloudWatch guide, "Specification: Embedded metric format".

A whole library for this one line would be a quarter of a function's start: docs/adr/0018.
"""

import json
from collections import defaultdict
from datetime import datetime
from threading import Lock

#: The one dimension of every metric; template.yaml's alarms and dashboard name it.
DIMENSION = {"service": "dropforge"}
#: CloudWatch knows no unit of money.
_UNITS = {"GpuPercent": "Percent", "SpendUsdPerHour": "None", "SpendUsdThisMonth": "None"}
#: Metrics that one line may hold.
MOST_A_LINE = 100


class Metrics:
    """What one invocation counts. Threads may count side by side."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._sums: dict[str, float] = defaultdict(float)
        self._lock = Lock()

    def add(self, name: str, count: float) -> None:
        """Added to what this invocation counted under that name already."""
        with self._lock:
            self._sums[name] += count

    def lines(self, now: datetime) -> list[str]:
        """What was counted, as lines for the log; from here on counted anew."""
        with self._lock:
            sums, self._sums = dict(self._sums), defaultdict(float)
        names = sorted(sums)
        return [self._line(names[first : first + MOST_A_LINE], sums, now) for first in range(0, len(names), MOST_A_LINE)]

    def _line(self, names: list[str], sums: dict[str, float], now: datetime) -> str:
        metrics = [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in names]
        told = {"Namespace": self._namespace, "Dimensions": [list(DIMENSION)], "Metrics": metrics}
        head = {"_aws": {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [told]}}
        return json.dumps(head | DIMENSION | {name: sums[name] for name in names})
