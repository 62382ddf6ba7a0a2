"""Hostile input, tried by machine: what any bytes do to the readers of the contract and of AWS's events. docs/hostile-input.md says how to run it."""
