"""A plan drawn for a terminal: a table to read in ten seconds, what it stands on, and what to watch. Or as JSON, with every figure."""

from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobspec.instances import PRICES_AS_OF, PRICES_REGION
from jobspec.manifest import Manifest
from jobspec.problems import render_problems
from planning.estimate import FITS, NOTICE_S, TOO_LARGE, JobPlan, TypePlan, shown_bytes
from planning.memory import GIB
from planning.refusals import refusals, warnings
from planning.speed import Guess
from planning.words import hours, preferred

_COLOURS = {"fits": "green", "tight": "yellow", "no": "red"}
_BAR = 14


def plan_view(plan: JobPlan, manifest: Manifest, unknown: tuple[str, ...], now: datetime) -> RenderableType:
    """The whole page."""
    parts: list[RenderableType] = [_head(plan, manifest), _table(plan, manifest)]
    parts.append(_memory_line(preferred(plan, manifest)))
    parts += [Text(f"! {line}", style="yellow") for line in (*warnings(plan, manifest, now), *unknown)]
    if problems := refusals(plan, manifest, now):
        parts.append(Text("It would be refused:", style="bold red"))
        parts.append(Text(render_problems(problems).rstrip()))
    parts.append(
        Text(
            f"Counts are exact; memory is a formula (docs/planning.md); times and dollars are guesses: on-demand prices of {' or '.join(plan.regions)}, "
            f"typical spot of {PRICES_REGION}, {PRICES_AS_OF}.",
            "dim",
        )
    )
    return Group(*parts)


def _head(plan: JobPlan, manifest: Manifest) -> Text:
    shape, work = plan.shape, plan.work
    active = f" ({shape.active_parameters / 1e9:.2f} B for each token)" if any(one.experts > 1 for one in shape.linears) else ""
    trained = "all of them trained" if work.adapter == "full" else f"{plan.trained / 1e6:.2f} M trained ({work.adapter}, r {work.r})"
    data = f"{plan.rows.number:,.0f} rows{'' if plan.rows.counted else ' (a guess)'}, " if plan.rows is not None else ""
    steps = f"{plan.steps:,} steps of {work.global_batch}" if plan.steps is not None else "steps not known"
    tokens = f", {plan.tokens.typical / 1e6:.1f} M tokens (a guess)" if plan.tokens is not None else ""
    model = f"{shape.model_type}, {shape.layers} layers, {shape.parameters / 1e9:.3f} B parameters{active}, {trained}"
    return Text.assemble(
        (manifest.name, "bold"),
        f"  {work.method} of {manifest.model.reference()}: {model}\n",
        f"{data}{steps}{tokens}; a checkpoint is {shown_bytes(plan.checkpoint_bytes)}",
    )


def _table(plan: JobPlan, manifest: Manifest) -> Table:
    table = Table(
        "", "type", "GPU", "memory", "GiB", "dtype", "rows x acc.", "tokens/s", "time (range)", "spot", "on demand", "last save", box=None, pad_edge=False
    )
    for at in (4, 6, 7, 9, 10, 11):
        table.columns[at].justify = "right"
    for column in table.columns:
        column.no_wrap = True
    best = preferred(plan, manifest)
    for one in plan.types:
        colour = _COLOURS[one.verdict]
        nodes = f"{one.nodes} x " if one.nodes > 1 else ""
        count = nodes + (f"{one.instance.gpus} x " if one.instance.gpus > 1 else "")
        table.add_row(
            Text(one.verdict, style=colour),
            Text(one.instance.name, style="bold" if one is best else ""),
            f"{count}{one.instance.gpu}",
            _bar(one.load, colour),
            f"{one.memory.total / GIB:.1f}/{one.gpu_bytes / GIB:.1f}",
            one.dtype,
            _split(one),
            f"{one.tokens_per_s.typical:,.0f}" if one.tokens_per_s is not None else "?",
            hours(one.hours) if one.hours is not None else "?",
            _dollars(one.usd_spot),
            _dollars(one.usd_on_demand),
            Text(f"{one.save_s:.0f} s" if one.save_s >= 1 else "< 1 s", style="" if one.save_in_time else "yellow"),
            style="dim" if one.verdict == "no" else "",
        )
    return table


def _split(one: TypePlan) -> str:
    """Rows of a micro-batch, micro-batches of a step, and GPUs where there are several."""
    if not one.micro_batch:
        return "uneven"
    return f"{one.micro_batch} x {one.accumulation}" + (f" x {one.ranks}" if one.ranks > 1 else "")


def _bar(load: float, colour: str) -> Text:
    full = min(_BAR, round(load * _BAR))
    return Text("█" * full + "░" * (_BAR - full), style=colour)


def _dollars(guess: Guess | None) -> str:
    return "?" if guess is None else f"${guess.typical:.2f}"


def _memory_line(one: TypePlan) -> Text:
    memory = one.memory
    parts = (
        ("weights", memory.weights),
        ("adapter", memory.adapter),
        ("gradients", memory.gradients),
        ("optimizer", memory.optimizer),
        ("activations", memory.activations),
        ("logits", memory.logits),
        ("CUDA", memory.cuda),
    )
    told = " + ".join(f"{name} {size / GIB:.2f}" for name, size in parts if size)
    roomier = f"; rows at once could be {one.roomier_micro_batch}" if one.roomier_micro_batch > one.micro_batch else ""
    there = one.nodes * one.instance.gpus
    used = f"; on each of {one.ranks} GPUs" if one.ranks > 1 else f"; of {there} GPUs one trains" if there > 1 else ""
    return Text(f"{one.instance.name}, GiB: {told}{roomier}{used}", style="dim")


def plan_json(plan: JobPlan, manifest: Manifest, unknown: tuple[str, ...], now: datetime) -> dict[str, Any]:
    """Every figure; bytes, seconds and dollars."""
    problems = refusals(plan, manifest, now)
    return {
        "name": manifest.name,
        "accepted": not problems,
        "problems": [one.model_dump(exclude={"line"}) for one in problems],
        "warnings": [*warnings(plan, manifest, now), *unknown],
        "model": {
            "reference": manifest.model.reference(),
            "type": plan.shape.model_type,
            "layers": plan.shape.layers,
            "parameters": plan.shape.parameters,
            "active_parameters": plan.shape.active_parameters,
            "trained_parameters": plan.trained,
        },
        "data": {"rows": plan.rows.number, "counted": plan.rows.counted} if plan.rows is not None else None,
        "steps": plan.steps,
        "tokens": _range(plan.tokens),
        "checkpoint_bytes": plan.checkpoint_bytes,
        "preferred": preferred(plan, manifest).instance.name,
        "limits": {"fits_below": FITS, "refused_above": TOO_LARGE, "notice_s": NOTICE_S, "prices_as_of": PRICES_AS_OF, "prices_region": PRICES_REGION},
        "on_demand_regions": list(plan.regions),
        "types": [_type_json(one) for one in plan.types],
    }


def _type_json(one: TypePlan) -> dict[str, Any]:
    memory = one.memory
    parts = {name: round(getattr(memory, name)) for name in memory.__slots__}
    return {
        "instance_type": one.instance.name,
        "gpu": one.instance.gpu,
        "gpus": one.instance.gpus,
        "nodes": one.nodes,
        "verdict": one.verdict,
        "dtype": one.dtype,
        "micro_batch_size": one.micro_batch,
        "accumulation": one.accumulation,
        "roomier_micro_batch_size": one.roomier_micro_batch,
        "gpu_memory_bytes": one.gpu_bytes,
        "memory_bytes": parts | {"total": round(memory.total)},
        "tokens_per_s": _range(one.tokens_per_s),
        "hours": _range(one.hours),
        "usd_spot": _range(one.usd_spot),
        "usd_on_demand": _range(one.usd_on_demand),
        "save_s": round(one.save_s, 1),
        "save_in_time": one.save_in_time,
    }


def _range(guess: Guess | None) -> dict[str, float] | None:
    return None if guess is None else {"least": round(guess.least, 4), "typical": round(guess.typical, 4), "most": round(guess.most, 4)}
