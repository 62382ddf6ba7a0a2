"""The command line (``cli.py``), the laptop cloud (``local/``), and jobs from Python (``api.py``). Imports jobspec; never the control plane, agent or trainer.

``from dropforge import submit, status``: imported when they are first asked for, so that the command line's start does not pay for them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dropforge.api import DropforgeError, SubmittedJob, status, submit

__all__ = ["DropforgeError", "SubmittedJob", "status", "submit"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from dropforge import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
