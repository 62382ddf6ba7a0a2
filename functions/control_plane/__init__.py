"""The control plane: what the Lambda functions run.

``core`` decides and is pure; ``ports`` names what the driver needs of the world; ``adapters`` provide it (AWS, and in
memory); ``driver`` joins the two; ``handlers`` are the doors. Imports point that way only, and ``lint-imports`` checks it.
"""
