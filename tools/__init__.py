"""Generators and checks for this repository: what a maintainer or CI runs, never a user's job.

Rules of this room: each tool is ``python -m tools.NAME`` from the repository's root, reads and writes only files of the
repository, and needs no network and no account.
"""
