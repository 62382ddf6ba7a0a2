"""The decision core: pure. It reads no clock, no environment, no network and no randomness; ``now`` is a parameter.

Start with ``decide.py``. Imports only ``jobspec`` and pydantic; ``lint-imports`` and a test hold it to that.
"""
