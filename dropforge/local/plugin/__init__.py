"""What no emulator has: a spot market, instances that run, IMDS, tag conditions in policies, mail. Lives inside ministack.

Rules of this room: it runs in ``.venv-cloud`` and imports only the standard library, botocore and ministack - never
jobspec, control_plane, agent or trainer. Only ``seams`` names what is private in ministack; every other file asks it.
What AWS does is stated once, beside the code that does it, from AWS's documentation; ``dropforge/local/README.md`` lists what
is not modelled. Nothing here listens on an address other than loopback.
"""
