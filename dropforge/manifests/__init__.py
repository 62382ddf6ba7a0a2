"""Manifests before they are sent: begin one (``init``), check one (``validate``), say what it would be (``summary``).

Rules of this room: no AWS; nothing is imported before a command runs but ``commands``.
"""
