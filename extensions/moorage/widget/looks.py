"""What the widget shows, as plain data for its front end: every text is made here, the front end only places it."""

import json
from typing import Any

from moorage.card import size_text, versions_text
from moorage.cluster_words import ending_text, keeping_text
from moorage.errors import LimitRefused, MoorageError
from moorage.quantities import show_amount
from moorage.widget.arithmetic import CPU_STEP, MEMORY_STEP, Check, Form, Line
from moorage.wire import Attach, Cluster, ClusterOptions, Phase

_LABELS = {"cpu": "CPU", "memory": "Memory", "gpu": "GPU", "clusters": "Clusters"}
_STEPS = ((Phase.PENDING, "Admitted"), (Phase.STARTING, "Starting"), (Phase.READY, "Ready"))
_ORDER = {Phase.PENDING: 0, Phase.STARTING: 1, Phase.READY: 2}

_PHASE_WORDS = {
    Phase.PENDING: "Admitted. Its processes are about to start.",
    Phase.STARTING: "Starting. Waiting for its workers.",
    Phase.READY: "Ready.",
    Phase.STOPPING: "Stopping.",
    Phase.STOPPED: "Stopped.",
    Phase.FAILED: "Failed.",
}


def form_look(form: Form, options: ClusterOptions) -> dict[str, Any]:
    """The fields with their values and bounds."""
    most = options.max_worker
    return {
        "engine": form.engine,
        "engines": [{"name": one.engine, "available": one.available, "why": one.why_not} for one in options.engines],
        "min_workers": {"value": form.min_workers, "min": 0, "max": options.max_workers, "step": 1},
        "max_workers": {"value": form.max_workers, "min": 1, "max": options.max_workers, "step": 1},
        "cpu": {"value": form.cpu, "min": min(CPU_STEP, most.cpu), "max": most.cpu, "step": CPU_STEP},
        "memory": {
            "value": form.memory,
            "min": min(MEMORY_STEP, most.memory),
            "max": most.memory,
            "step": MEMORY_STEP,
        },
        "gpu": {"value": form.gpu, "min": 0, "max": most.gpu, "step": 1},
        "gpu_type": form.gpu_type,
        "gpu_types": options.gpu_types,
        "on_notebook_end": form.on_notebook_end,
        "texts": {
            "cpu": show_amount("cpu", form.cpu),
            "memory": show_amount("memory", form.memory),
            "head": f"Head: {size_text(options.head)}",
        },
    }


def check_look(check: Check) -> dict[str, Any]:
    return {"ok": check.ok, "sentence": check.sentence, "lines": [_line_look(line) for line in check.lines]}


def _line_look(line: Line) -> dict[str, Any]:
    label = _LABELS.get(
        line.resource, f"GPU {line.resource[4:]}" if line.resource.startswith("gpu:") else line.resource
    )
    look: dict[str, Any] = {
        "label": label,
        "asked": show_amount(line.resource, line.asked),
        "over": line.over,
        "left": None,
        "rule": None,
        "used_share": 0.0,
        "asked_share": 0.0,
    }
    if line.remaining is not None:
        amount = max(line.remaining.amount, 1e-9)
        used = min(1.0, max(0.0, line.remaining.amount - line.remaining.left) / amount)
        look["left"] = show_amount(line.resource, max(0.0, line.remaining.left))
        look["rule"] = line.remaining.rule
        look["used_share"] = used
        look["asked_share"] = min(1.0 - used, line.asked / amount)
    return look


def cluster_look(
    state: Cluster, *, elapsed_s: float, dashboard: str | None, attach: Attach | None, only: bool, overlay: list[str]
) -> dict[str, Any]:
    """The chosen cluster. `only`: it is the only one, so that `moorage.attach()` needs no name."""
    at = _ORDER.get(state.phase)
    steps = []
    for index, (phase, label) in enumerate(_STEPS):
        mark = "todo"
        if at is not None:
            mark = "done" if index < at or state.phase is Phase.READY else "now" if index == at else "todo"
        steps.append({"label": label, "mark": mark, "phase": str(phase)})
    name = "" if only else json.dumps(state.name)
    look: dict[str, Any] = {
        "id": state.id,
        "name": state.name,
        "engine": state.spec.engine,
        "phase": str(state.phase),
        "words": _PHASE_WORDS.get(state.phase, str(state.phase).capitalize() + "."),
        "reason": state.reason,
        "last_event": state.events[-1].message if state.events else None,
        "steps": steps if at is not None else [],
        "elapsed_s": elapsed_s,
        "counting": state.phase in (Phase.PENDING, Phase.STARTING, Phase.STOPPING),
        "ended": state.phase.ended,
        "workers": f"{state.workers} of {state.spec.min_workers} to {state.spec.max_workers}",
        "size": size_text(state.spec.worker),
        "versions": versions_text(state.versions) or None,
        "dashboard": dashboard if state.phase is Phase.READY else None,
        "address": attach.address if attach is not None and state.phase is Phase.READY else None,
        "snippet": f"cluster = moorage.attach({name})\ncluster.connect()",
        "overlay": overlay_note(overlay),
        "on_notebook_end": state.on_notebook_end,
        "keeping": None if state.phase.ended else keeping_text(state),
        "ending": ending_text(state) or None,
    }
    return look


def row_look(state: Cluster, shown: bool) -> dict[str, Any]:
    """A cluster in the list of mine."""
    return {
        "id": state.id,
        "name": state.name,
        "engine": state.spec.engine,
        "phase": str(state.phase),
        "workers": f"{state.workers} of {state.spec.max_workers} workers",
        "size": size_text(state.spec.worker),
        "shown": shown,
    }


def trouble_look(error: MoorageError) -> dict[str, Any]:
    """An error; a refusal with its rule, what is used, and who holds it."""
    if not isinstance(error, LimitRefused):
        return {"kind": "error", "message": error.message}
    refusal = error.refusal
    resource = refusal.resource
    return {
        "kind": "refusal",
        "message": refusal.message or error.message.splitlines()[0],
        "rule": refusal.rule,
        "used": f"{show_amount(resource, refusal.used)} of {show_amount(resource, refusal.amount)}",
        "asked": show_amount(resource, refusal.asked),
        "holders": [
            {"amount": show_amount(resource, one.amount), "kind": one.kind, "name": one.name, "owner": one.owner}
            for one in refusal.held_by
        ],
    }


def overlay_note(packages: list[str]) -> str | None:
    """What to say about packages that only this kernel has."""
    if not packages:
        return None
    shown = ", ".join(packages[:6]) + (f" and {len(packages) - 6} more" if len(packages) > 6 else "")
    return (
        f"Not on workers: {shown}. These came by %pip install; to have them on workers too, add them to the packages "
        "in moorage.yaml and build the project."
    )
