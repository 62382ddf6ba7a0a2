"""The ports on AWS. One job table serves ``dynamodb`` (the jobs and their turns), ``holds``, ``spend`` and ``publish_ledger``; ``items`` says what lies in it.

Rules of this room: an adapter translates and nothing else; what to do about an answer is the core's business. Constructors
take clients and plain values, never the environment. ``tests/contract`` holds them to the same assertions over moto and over
the AWS in memory (``tests/simulation/aws``) that every other test runs on: a change of behaviour here starts there.
"""
