"""The trainer's orders, from the ticket, what was staged, and the machine that this is."""

from pathlib import Path
from typing import Any

from agent.sources import run_sources
from agent.staging import START_FOLDER, model_reference
from jobspec.batches import gpus_used
from jobspec.instances import GPU_INSTANCES
from jobspec.manifest import Manifest
from jobspec.methods import OPTIONS
from jobspec.runfile import RunFile
from jobspec.ticket import Ticket


def gpus_of(instance_type: str | None, manifest: Manifest) -> int:
    """GPUs to train on; on a machine of no offered type (a laptop's local cloud) the one process that is left."""
    known = GPU_INSTANCES.get(instance_type or "")
    return gpus_used(known.gpus, manifest.method, manifest.adapter.type) if known is not None else 1


def run_file(ticket: Ticket, folder: Path, gpus: int = 1) -> RunFile:
    """The trainer's orders, from the manifest and what was staged in ``folder``; the rest are the contract's own defaults."""
    manifest = ticket.manifest
    return RunFile(
        job_id=ticket.job_id,
        model_reference=model_reference(ticket),
        start_dir=START_FOLDER if ticket.start is not None and ticket.start.use == "adapter" else None,
        start_reference=ticket.start.job_id if ticket.start is not None else "",
        train_from=run_sources("train", manifest.data, folder),
        eval_from=run_sources("eval", manifest.data, folder),
        data_format=manifest.data.format,
        columns=manifest.data.columns,
        eval_fraction=manifest.data.eval_fraction,
        checkpoint=manifest.checkpoint,
        processes=gpus,
        **_together(ticket),
        market=ticket.market,
        launched_at=ticket.launched_at,
        **{name: getattr(manifest, name) for name in ("method", *OPTIONS, "adapter", "training", "evaluation")},
    )


def _together(ticket: Ticket) -> dict[str, Any]:
    """Of a gang's member: which of how many instances this is, and where the leader listens."""
    gang = ticket.gang
    if gang is None:
        return {}
    return {"nodes": gang.size, "node_rank": gang.rank, "rendezvous": f"{gang.leader_address}:{gang.port}"}
