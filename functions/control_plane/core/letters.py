"""The e-mails: short, plain, and readable on a telephone. What happened, what it cost, where the model is, what to do next.

Rules of this file: printable ASCII only, and every text that is not our own stays on its line: an object's key may hold anything,
a line break too, and an instance's words come from whoever turned it. What can be typed stands on a line of its own.
"""

from datetime import datetime

from control_plane.core import gpus, ledger, sweep_letters
from control_plane.core.records import Attempt, AttemptEnd
from control_plane.core.report import StackFacts, model_location, start_of
from control_plane.core.state import Job, JobState, Notice, NoticeKind
from jobspec import stages
from jobspec.instances import GPU_INSTANCES
from jobspec.marker import FailureCode
from jobspec.status import Receipt
from jobspec.units import duration_text

#: SNS: a subject is at most 100 ASCII characters, without control characters.
MAX_SUBJECT = 100

_END_WORDS = {
    JobState.SUCCEEDED: "finished",
    JobState.REJECTED: "was refused",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "was cancelled",
    JobState.STOPPED_DEADLINE: "was stopped: its time is up",
    JobState.STOPPED_BUDGET: "was stopped: its money is up",
}

QUOTA_HELP = (
    "New accounts start with 0 vCPU of GPU quota. See and ask, in the region of the stack:",
    "  aws service-quotas list-service-quotas --service-code ec2 --output table \\",
    "    --query \"Quotas[?contains(QuotaName,'G and VT') || contains(QuotaName,'P ')].[QuotaCode,QuotaName,Value]\"",
    "  aws service-quotas request-service-quota-increase --service-code ec2 --quota-code QUOTA_CODE --desired-value VCPUS",
    "The job asks again every half hour; nothing is lost and nothing is billed meanwhile.",
    "",
)

IDLE_HELP = (
    "Usual causes: rows that take longer to tokenize than to train on, a batch too small for the GPU (training.micro_batch_size), a GPU",
    "that the trainer could not open, so that it works on the CPU (logs/trainer.log says so), more GPUs in the instance than the job uses.",
    "limits.idle_gpu of the manifest sets the bound, the window, and whether such a job is stopped.",
    "",
)


def letter_of(job: Job, notice: Notice, stack: StackFacts, now: datetime) -> tuple[str, str]:
    """Subject and body of an e-mail."""
    subject, first = _headline(job, notice, now)
    lines = [first, ""]
    if notice.kind is NoticeKind.QUOTA:
        lines += [*_gang_quota_lines(job), *QUOTA_HELP]
    if notice.kind is NoticeKind.IDLE or (notice.kind is NoticeKind.END and job.failure is FailureCode.GPU_IDLE):
        lines += IDLE_HELP
    if notice.kind is NoticeKind.END:
        lines += sweep_letters.end_lines(job, stack) if job.is_sweep else _end_lines(job, stack, now)
    else:
        lines += ["Look:", f"  dropforge status {job.name} --watch --stack {stack.project}", ""]
    lines += [f"Manifest: s3://{job.manifest_ref.bucket}/{job.manifest_ref.key}", f"Job: {job.job_id}", f"Notification: {notice.notice_id}"]
    return _one_line(f"[Dropforge] {subject}")[:MAX_SUBJECT], "".join(_one_line(line) + "\n" for line in lines)


def _headline(job: Job, notice: Notice, now: datetime) -> tuple[str, str]:
    """The subject without its mark, and the first sentence."""
    cost = f"${sweep_letters.cost_usd(job) if job.is_parent else ledger.job_cost_usd(job, now):.2f}"
    attempt = next((a for a in job.attempts if a.number == notice.attempt), None)
    match notice.kind:
        case NoticeKind.END:
            words = _END_WORDS[job.state]
            return f"{job.name} {words}" + (f", {cost}" if job.attempts or job.children else ""), f"{job.name} {words}. {_sentence(job.reason)}"
        case NoticeKind.ACCEPTED:
            what = "an instance is being asked for"
            if job.manifest is not None and job.manifest.sweep is not None:
                what = f"a sweep of {job.manifest.sweep.size} jobs"
            if job.is_schedule:
                what = "a schedule, whose jobs send e-mails of their own"
            return f"{job.name} accepted", f"{job.name} is accepted; {what}."
        case NoticeKind.INTERRUPTED:
            where = f"{attempt.instance_type} in {attempt.zone}" if attempt else "its instance"
            sentence = f"EC2 takes back the spot capacity of attempt {notice.attempt} ({where}). It saves now; a replacement is being asked for."
            return f"{job.name} interrupted, {cost} so far", sentence
        case NoticeKind.RELAUNCHED:
            where = f"{_members(attempt)}, {attempt.instance_type} in {attempt.zone}, {attempt.market}" if attempt else "a new instance"
            what = "instances" if attempt and attempt.others else "instance"
            sentence = f"Attempt {notice.attempt} of {job.name} has its {what}: {where}. It goes on from the newest whole checkpoint."
            return f"{job.name} relaunched, {cost} so far", sentence
        case NoticeKind.WAITING:
            return f"{job.name} waits for capacity", f"{job.name} waits: {_sentence(job.wait.reason if job.wait else job.reason)} It asks again by itself."
        case NoticeKind.QUOTA:
            why = next((child.reason for child in job.children if child.needs_quota), job.wait.reason if job.wait else job.reason)
            return f"{job.name} needs a quota", f"{job.name} waits for an EC2 quota: {_sentence(why)}"
        case NoticeKind.BUDGET:
            budget = job.manifest.limits.budget_usd if job.manifest else 0.0
            sentence = f"{job.name} has spent {cost} of its budget_usd of ${budget:g}. At the cap it saves and stops (STOPPED_BUDGET)."
            return f"{job.name} spent {cost} of ${budget:g}", sentence
        case NoticeKind.IDLE:
            # A letter may go out late; by then the GPU may work, or be gone.
            still = gpus.words(job, attempt) if attempt and gpus.idle(job, attempt) else f"a GPU of attempt {notice.attempt} was idle, and is not any more"
            return f"{job.name}: an idle GPU", f"At {notice.owed_at:%H:%M} UTC, {still}. The job goes on and costs what it costs."


def _gang_quota_lines(job: Job) -> list[str]:
    """What several instances need of the quota at once, in the unit that it has."""
    if job.manifest is None or job.manifest.compute.nodes == 1:
        return []
    compute = job.manifest.compute
    each = [(GPU_INSTANCES[name].vcpus, name) for name in compute.candidate_types()]
    needs = ", ".join(f"{compute.nodes * vcpus} vCPU for {compute.nodes} x {name}" for vcpus, name in each)
    return [f"All of its {compute.nodes} instances are asked for at once: {needs}.", ""]


def _members(attempt: Attempt) -> str:
    return ", ".join(one.instance_id for one in attempt.instances)


def _end_lines(job: Job, stack: StackFacts, now: datetime) -> list[str]:
    where = model_location(job, stack.outputs_bucket)
    lines: list[str] = []
    if job.attempts:
        lines += _receipt_lines(job, ledger.receipt(job, now, stack.volume_gib))
    done = next((a for a in job.attempts if a.end is AttemptEnd.COMPLETED), None)
    if done is not None and done.results is not None and done.results.eval_loss_after is not None:
        before = f"{done.results.eval_loss_before:.4f}" if done.results.eval_loss_before is not None else "?"
        lines.append(f"Loss: held out, {before} before, {done.results.eval_loss_after:.4f} after {done.results.steps} steps")
    if where is not None:
        lines.append(f"Model: {where}")
    lines += [""] if lines else []
    for problem in job.problems:
        at = f" (line {problem.line})" if problem.line else ""
        lines.append(f"* {problem.path or 'manifest'}{at}: {problem.message}")
        lines += [f"    {label}: {text}" for label, text in (("found", problem.found), ("allowed", problem.allowed)) if text]
    lines += [""] if job.problems else []
    lines += _next_lines(job, stack, where)
    if job.attempts:
        lines += ["Attempts:", *(line for attempt in job.attempts for line in _attempt_lines(job, attempt, now)), ""]
    return lines


def _next_lines(job: Job, stack: StackFacts, model: str | None) -> list[str]:
    """What to do next, ready to be copied."""
    if model is not None:
        return ["Fetch it:", f"  dropforge download {job.name} --stack {stack.project}", f"  aws s3 cp --recursive '{model}' ./{job.name}", ""]
    if job.state is JobState.REJECTED:
        return ["Mend the manifest and put it again; nothing was started and nothing was billed.", ""]
    logs = [f"  dropforge logs {job.name} --stack {stack.project}"] if job.attempts else []
    kept = "Published checkpoints are kept; the status object names the newest." if job.attempts else "Nothing was started and nothing was billed."
    return ["See what it said, or put it again:" if logs else "Put it again:", *logs, f"  dropforge retry {job.name} --stack {stack.project}", kept, ""]


def _attempt_lines(job: Job, attempt: Attempt, now: datetime) -> list[str]:
    beat = attempt.heartbeat
    steps = f"steps {beat.first_step or 0}-{beat.step}" if beat is not None else "no step"
    end = f"{attempt.end or 'running'}" + (f" (by {attempt.ended_by})" if attempt.ended_by else "") + (", free" if ledger.is_free(attempt) else "")
    machines = f"{len(attempt.instances)} x {attempt.instance_type}" if attempt.others else attempt.instance_type
    lost = ledger.lost_s(job, attempt)
    again = f", {duration_text(lost)} done again" if lost >= 1 else ""
    egress = ledger.egress_usd(attempt)
    crossed = f" + ${egress:.4f} between regions" if egress else ""
    line = (
        f"  {attempt.number}. {machines} {attempt.zone} {attempt.market}: {duration_text(ledger.runtime_s(attempt, now))}, {steps}{again}, "
        f"${ledger.cost_usd(attempt, now):.4f}{crossed}, {end}"
    )
    start_s, stages_s = start_of(attempt)
    return [line] + ([f"     {stages.told(start_s, stages_s)}"] if start_s is not None else [])


def _receipt_lines(job: Job, receipt: Receipt) -> list[str]:
    lost = f", {duration_text(receipt.lost_s)} of it done again" if receipt.lost_s >= 1 else ""
    count = sum(len(attempt.instances) for attempt in job.attempts)
    saved = f"saved ${receipt.saved_usd:.4f} ({receipt.saved_percent:.0f} %)" if receipt.saved_usd >= 0 else f"${-receipt.saved_usd:.4f} less"
    crossed = f", ${receipt.egress_usd:.4f} of it for data between regions" if receipt.egress_usd else ""
    return [
        f"Cost: ${receipt.cost_usd:.4f}{crossed}; on-demand would have cost ${receipt.on_demand_usd:.4f}; {saved}",
        f"Time: {duration_text(receipt.runtime_s)} on {count} instance(s){lost}; their volumes about ${receipt.volumes_usd:.4f} more",
        f"({receipt.note})",
    ]


def _sentence(text: str) -> str:
    """With a capital letter, but for what begins with a name of the manifest's or a code, and a full stop."""
    if text.split(" ", 1)[0].isalpha():
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _one_line(text: str) -> str:
    """Printable, on one line: an e-mail's reader, and its headers, see nothing that a manifest could inject."""
    return "".join(char if " " <= char <= "~" else " " for char in text)
