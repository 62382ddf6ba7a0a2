"""A job for people: the status object and the e-mails, both made of the saved facts alone."""

from datetime import datetime

from control_plane.core import gpus, ledger
from control_plane.core.state import Attempt, AttemptEnd, Job, JobState, Notice, NoticeKind
from jobspec import keys
from jobspec.marker import FailureCode
from jobspec.status import AttemptStatus, Receipt, Status, TransitionLine
from jobspec.units import duration_text

#: SNS: a subject is at most 100 ASCII characters, without control characters.
MAX_SUBJECT = 100


def status_of(job: Job, outputs_bucket: str, now: datetime) -> Status:
    """The whole status object of a job."""
    newest = next((a for a in reversed(job.attempts) if a.heartbeat is not None), None)
    beat = newest.heartbeat if newest is not None else None
    saved = max(
        (a.heartbeat.checkpoint for a in job.attempts if a.heartbeat is not None and a.heartbeat.checkpoint is not None), key=lambda c: c.step, default=None
    )
    return Status(
        job_id=job.job_id,
        revision=job.version,
        name=job.name,
        state=job.state.value,
        reason=job.reason,
        updated_at=job.updated_at,
        accepted_at=job.accepted_at,
        manifest=f"s3://{job.manifest_ref.bucket}/{job.manifest_ref.key}",
        manifest_version=job.manifest_ref.version_id,
        problems=job.problems,
        step=beat.step if beat else 0,
        total_steps=beat.total_steps if beat else None,
        loss=beat.loss if beat else None,
        attempts=tuple(_attempt_status(job, attempt, now) for attempt in job.attempts),
        receipt=ledger.receipt(job, now) if job.attempts else None,
        model=model_location(job, outputs_bucket),
        checkpoint=f"s3://{outputs_bucket}/{saved.key}" if saved else None,
        history=tuple(TransitionLine(at=line.at, state=line.state.value, reason=line.reason) for line in job.history),
    )


def model_location(job: Job, outputs_bucket: str) -> str | None:
    """Where the finished model lies, once the job has succeeded."""
    done = next((a for a in job.attempts if a.end is AttemptEnd.COMPLETED), None)
    return f"s3://{outputs_bucket}/{keys.final_prefix(job.job_id, done.writer)}" if done is not None and job.state is JobState.SUCCEEDED else None


def _attempt_status(job: Job, attempt: Attempt, now: datetime) -> AttemptStatus:
    beat = attempt.heartbeat
    return AttemptStatus(
        number=attempt.number,
        market=attempt.market.value,
        instance_id=attempt.instance_id,
        instance_type=attempt.instance_type,
        zone=attempt.zone,
        launched_at=attempt.launched_at,
        warned_at=attempt.warned_at,
        ended_at=attempt.gone_at,
        end=attempt.end.value if attempt.end else None,
        ended_by=attempt.ended_by,
        first_step=beat.first_step if beat else None,
        last_step=beat.step if beat else None,
        gpus=beat.gpus if beat else (),
        idle_gpus=len(gpus.idle(job, attempt)),
        runtime_s=round(ledger.runtime_s(attempt, now), 1),
        usd_per_h=attempt.usd_per_h,
        cost_usd=round(ledger.cost_usd(attempt, now), 4),
    )


def letter_of(job: Job, notice: Notice, outputs_bucket: str, now: datetime) -> tuple[str, str]:
    """Subject and body of an e-mail: printable ASCII, and every text that is not our own stays on its line.

    An object's key may hold anything, a line break too; an instance's words come from whoever turned it.
    """
    subject, first = _headline(job, notice, now)
    lines = [first, ""]
    if notice.kind is NoticeKind.END:
        lines += _end_lines(job, outputs_bucket, now)
    lines += [f"Manifest: s3://{job.manifest_ref.bucket}/{job.manifest_ref.key}", f"Job: {job.job_id}", f"Notification: {notice.notice_id}"]
    if notice.kind is NoticeKind.QUOTA:
        lines[1:1] = QUOTA_HELP
    if notice.kind is NoticeKind.IDLE or (notice.kind is NoticeKind.END and job.failure is FailureCode.GPU_IDLE):
        lines[1:1] = IDLE_HELP
    return _one_line(subject)[:MAX_SUBJECT], "".join(_one_line(line) + "\n" for line in lines)


_END_WORDS = {
    JobState.SUCCEEDED: "finished",
    JobState.REJECTED: "was refused",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "was cancelled",
    JobState.STOPPED_DEADLINE: "was stopped: its time is up",
    JobState.STOPPED_BUDGET: "was stopped: its money is up",
}


def _headline(job: Job, notice: Notice, now: datetime) -> tuple[str, str]:
    cost = f"${ledger.job_cost_usd(job, now):.2f}"
    attempt = next((a for a in job.attempts if a.number == notice.attempt), None)
    match notice.kind:
        case NoticeKind.END:
            words = _END_WORDS[job.state]
            price = f", {cost}" if job.attempts else ""
            return f"[Dropforge] {job.name} {words}{price}", f"{job.name} {words}. {_sentence(job.reason)}"
        case NoticeKind.ACCEPTED:
            return f"[Dropforge] {job.name} accepted", f"{job.name} is accepted; an instance is being asked for."
        case NoticeKind.INTERRUPTED:
            where = f"{attempt.instance_type} in {attempt.zone}" if attempt else "its instance"
            return (
                f"[Dropforge] {job.name} interrupted",
                f"EC2 takes back the spot capacity of attempt {notice.attempt} ({where}). It saves now; a replacement is being asked for.",
            )
        case NoticeKind.RELAUNCHED:
            where = f"{attempt.instance_id}, {attempt.instance_type} in {attempt.zone}, {attempt.market}" if attempt else "a new instance"
            return (
                f"[Dropforge] {job.name} relaunched",
                f"Attempt {notice.attempt} of {job.name} has its instance: {where}. It goes on from the newest whole checkpoint.",
            )
        case NoticeKind.WAITING:
            return (
                f"[Dropforge] {job.name} waits for capacity",
                f"{job.name} waits: {_sentence(job.wait.reason if job.wait else job.reason)} It asks again by itself.",
            )
        case NoticeKind.QUOTA:
            return (
                f"[Dropforge] {job.name} needs a quota",
                f"{job.name} waits for an EC2 quota: {_sentence(job.wait.reason if job.wait else job.reason)}",
            )
        case NoticeKind.BUDGET:
            budget = job.manifest.limits.budget_usd if job.manifest else 0.0
            return (
                f"[Dropforge] {job.name} spent {cost} of ${budget:g}",
                f"{job.name} has spent {cost} of its budget_usd of ${budget:g}. At the cap it saves and stops (STOPPED_BUDGET).",
            )
        case NoticeKind.IDLE:
            # A letter may go out late; by then the GPU may work, or be gone.
            still = gpus.words(job, attempt) if attempt and gpus.idle(job, attempt) else f"a GPU of attempt {notice.attempt} was idle, and is not any more"
            return f"[Dropforge] {job.name}: an idle GPU", f"At {notice.owed_at:%H:%M} UTC, {still}. The job goes on and costs what it costs."


QUOTA_HELP = (
    "New accounts start with 0 vCPU of GPU quota. See and ask, in the region of the stack:",
    "  aws service-quotas list-service-quotas --service-code ec2 --output table \\",
    "    --query \"Quotas[?contains(QuotaName,'G and VT') || contains(QuotaName,'P ')].[QuotaCode,QuotaName,Value]\"",
    "  aws service-quotas request-service-quota-increase --service-code ec2 --quota-code QUOTA_CODE --desired-value VCPUS",
    "The job asks again every half hour; nothing is lost and nothing is billed meanwhile.",
)

IDLE_HELP = (
    "Usual causes: rows that take longer to tokenize than to train on, a batch too small for the GPU (training.micro_batch_size), a GPU",
    "that the trainer could not open, so that it works on the CPU (logs/trainer.log says so), more GPUs in the instance than the job uses.",
    "limits.idle_gpu of the manifest sets the bound, the window, and whether such a job is stopped.",
)


def _end_lines(job: Job, outputs_bucket: str, now: datetime) -> list[str]:
    lines: list[str] = []
    where = model_location(job, outputs_bucket)
    done = next((a for a in job.attempts if a.end is AttemptEnd.COMPLETED), None)
    if where is not None:
        lines += [f"The model: {where}", f"  aws s3 cp --recursive '{where}' ./{job.name}", ""]
    if done is not None and done.results is not None and done.results.eval_loss_after is not None:
        before = f"{done.results.eval_loss_before:.4f}" if done.results.eval_loss_before is not None else "?"
        lines += [f"Held-out loss: {before} before, {done.results.eval_loss_after:.4f} after {done.results.steps} steps", ""]
    for problem in job.problems:
        at = f" (line {problem.line})" if problem.line else ""
        lines.append(f"* {problem.path or 'manifest'}{at}: {problem.message}")
        lines += [f"    {label}: {text}" for label, text in (("found", problem.found), ("allowed", problem.allowed)) if text]
    if job.problems:
        lines += ["", "Mend the manifest and put it again; nothing was started and nothing was billed.", ""]
    if job.attempts:
        lines += [*_table(job, now), "", *_receipt_lines(ledger.receipt(job, now)), ""]
    if job.attempts and where is None:
        lines += ["Checkpoints that were uploaded are kept; the status object names the newest.", ""]
    return lines


def _table(job: Job, now: datetime) -> list[str]:
    lines = ["Attempts:"]
    for a in job.attempts:
        first, last = (a.heartbeat.first_step or 0, a.heartbeat.step) if a.heartbeat else (0, 0)
        lines.append(
            f"  {a.number}. {a.instance_type} {a.zone} {a.market}: {duration_text(ledger.runtime_s(a, now))}, steps {first}-{last}, "
            f"${ledger.cost_usd(a, now):.4f}, {a.end or 'running'}" + (f" (by {a.ended_by})" if a.ended_by else "")
        )
    return lines


def _receipt_lines(receipt: Receipt) -> list[str]:
    percent = f" ({100 * receipt.saved_usd / receipt.on_demand_usd:.0f} %)" if receipt.on_demand_usd else ""
    return [
        f"Cost: ${receipt.cost_usd:.4f}; on-demand would have cost ${receipt.on_demand_usd:.4f}; saved ${receipt.saved_usd:.4f}{percent}",
        f"Instance time: {duration_text(receipt.runtime_s)}",
        receipt.note,
    ]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _one_line(text: str) -> str:
    """Printable, on one line: an e-mail's reader, and its headers, see nothing that a manifest could inject."""
    return "".join(char if " " <= char <= "~" else " " for char in text)
