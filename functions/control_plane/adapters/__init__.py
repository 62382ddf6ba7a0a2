"""The ports on AWS: ``dynamodb``, ``ec2``, ``s3``, ``sns``, ``eventbridge``.

Rules of this room: an adapter translates and nothing else; what to do about an answer is the core's business. Constructors
take clients and plain values, never the environment. ``tests/contract`` holds them to the same assertions over moto and over
the AWS in memory (``tests/simulation/aws``) that every other test runs on: a change of behaviour here starts there.
"""
