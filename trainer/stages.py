"""How long each part of a start took, up to the end of the first step: for the receipt, which says where the minutes went."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stages:
    """``since``: when the stage that runs began, in seconds of the run's clock. Its ranks get a copy, and go on with it."""

    since: float
    seconds: dict[str, float] = field(default_factory=dict)

    def end(self, name: str, at: float) -> None:
        """The stage that runs is over, and was ``name``; the next begins. A repeated one (another micro-batch is tried) adds up."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + at - self.since, 3)
        self.since = at
