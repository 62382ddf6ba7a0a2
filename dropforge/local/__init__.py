"""The laptop cloud: the unchanged template, the real handlers and the real user data, on loopback, without an account.

``cloud`` starts and ends it, ``deploy`` brings the stack into it, ``market`` steers its spot market, ``commands`` is the
command line; ``plugin/`` runs inside the emulator. Rules of this room: servers on loopback only; every process it starts
it also ends; state lives in one folder (``state``). It imports jobspec, never control_plane, agent or trainer.
"""
