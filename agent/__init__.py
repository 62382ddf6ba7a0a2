"""On the instance, with its credentials: stage, watch, upload, heartbeat, mark. ``python -m agent FOLDER``.

Rules of this room: imports jobspec only; no torch. Every document goes through the contract's models. What lies in the
run folder was written by a trainer that may have been turned by hostile data: links are refused, sizes bounded.
The agent may be ended at any moment and started again: its state is what lies in the folder, in S3 and in IMDS.
Clock and sleep are parameters below ``__main__``.
"""
