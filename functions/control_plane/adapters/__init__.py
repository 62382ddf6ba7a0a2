"""The ports twice over: on AWS (``dynamodb``, ``ec2``, ``s3``, ``sns``, ``eventbridge``) and in ``memory``.

Rules of this room: an adapter translates and nothing else; what to do about an answer is the core's business. Constructors
take clients and plain values, never the environment. ``tests/contract`` holds both sides to the same assertions: a change
of behaviour here starts there.
"""
