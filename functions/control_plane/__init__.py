"""The control plane: what the Lambda functions run.

``core`` decides and is pure; ``ports`` names what the driver needs of the world; ``adapters`` provide it, on AWS;
``driver`` joins the two; ``handlers`` are the doors. Imports point that way only, and ``lint-imports`` checks it.
"""
