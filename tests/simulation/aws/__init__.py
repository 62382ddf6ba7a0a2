"""AWS in memory, as far as the control plane calls it: boto3-shaped clients over a world that the caller moves.

Nothing here is random, sleeps or reads a clock. Time comes from the caller, and every call goes through one gate, where a
simulator interleaves, loses and fails calls. What the clients claim of AWS is written down as tests in ``tests/contract``,
which run the same assertions on moto. Where AWS's behaviour is not established, the harsher reading is taken.
"""

from tests.simulation.aws.account import Account, Gate
from tests.simulation.aws.faults import aws_error, lost_answer

__all__ = ["Account", "Gate", "aws_error", "lost_answer"]
