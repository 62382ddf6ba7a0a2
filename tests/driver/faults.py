"""What may become of one call: its answer is lost, AWS says no, the function dies at it, or the world moves on meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.aws import aws_error, lost_answer

Effect = Callable[[], Any]
Fault = Callable[[str, Effect], Any]


class Crash(BaseException):
    """The function's process ended here. Nothing in the house may catch it, so it is no Exception."""


def lost(*, effect: bool) -> Fault:
    """No answer comes; ``effect``: AWS has done the work all the same."""

    def fault(operation: str, made: Effect) -> Any:
        if effect:
            made()
        raise lost_answer(operation)

    return fault


def refused(code: str) -> Fault:
    """AWS answers with this error, and does nothing."""

    def fault(operation: str, made: Effect) -> Any:
        raise aws_error(code, "AWS's words.", operation)

    return fault


def crash_before(operation: str, made: Effect) -> Any:
    raise Crash(operation)


def crash_after(operation: str, made: Effect) -> Any:
    made()
    raise Crash(operation)


def meanwhile(act: Callable[[], object]) -> Fault:
    """Somebody does something between the caller's last read and this call."""

    def fault(operation: str, made: Effect) -> Any:
        act()
        return made()

    return fault


def slow(act: Callable[[], object]) -> Fault:
    """The call has its effect; then time, or something else, comes in between before the caller goes on."""

    def fault(operation: str, made: Effect) -> Any:
        answer = made()
        act()
        return answer

    return fault


@dataclass(slots=True)
class _Planned:
    operation: str
    subject: str
    skip: int
    fault: Fault


@dataclass
class Faults:
    """An account's gate: lets every call pass but those that a story spoke of."""

    _once: list[_Planned] = field(default_factory=list)
    _down: list[_Planned] = field(default_factory=list)

    def once(self, operation: str, fault: Fault, *, about: str = "", skip: int = 0) -> None:
        """The next call of the operation meets the fault. ``about``: only one about this; ``skip``: so many pass first."""
        self._once.append(_Planned(operation, about, skip, fault))

    def down(self, fault: Fault, *operations: str, about: str = "") -> None:
        """Every call of these operations meets the fault until ``mend``; a service's name means all of its calls."""
        self._down += [_Planned(operation, about, 0, fault) for operation in operations]

    def mend(self) -> None:
        self._down.clear()

    @property
    def all_met(self) -> bool:
        return not self._once

    def __call__(self, operation: str, subject: str, effect: Effect) -> Any:
        for planned in self._once:
            if planned.operation == operation and planned.subject in ("", subject):
                if planned.skip:
                    planned.skip -= 1
                    continue
                self._once.remove(planned)
                return planned.fault(operation, effect)
        for planned in self._down:
            if planned.operation in (operation, operation.partition(".")[0]) and planned.subject in ("", subject):
                return planned.fault(operation, effect)
        return effect()
