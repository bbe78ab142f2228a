"""What a sizing form asks for, against what is left: pure, no widgets and no network.

A cluster is admitted at its maximum, head + most workers x worker, so that is what counts here too. The service decides;
this tells the person before they ask.
"""

from dataclasses import dataclass, replace

from moorage.quantities import show_amount
from moorage.wire import ClusterOptions, ClusterSpec, EngineOptions, Remaining, Size
from moorage.wire.clusters import EngineName, OnNotebookEnd

GIB = 2**30
CPU_STEP = 0.5
MEMORY_STEP = GIB // 2


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the person has chosen: worker size in cores, bytes and gpus."""

    engine: EngineName
    min_workers: int = 1
    max_workers: int = 1
    cpu: float = 1.0
    memory: int = 2 * GIB
    gpu: int = 0
    gpu_type: str | None = None
    on_notebook_end: OnNotebookEnd = "stop"

    def spec(self) -> ClusterSpec:
        worker = Size(cpu=self.cpu, memory=self.memory, gpu=self.gpu, gpu_type=self.gpu_type if self.gpu else None)
        return ClusterSpec(
            engine=self.engine, min_workers=self.min_workers, max_workers=self.max_workers, worker=worker
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """One resource: what is asked of it, and what the tightest rule leaves (None: no rule limits it)."""

    resource: str
    asked: float
    remaining: Remaining | None

    @property
    def over(self) -> bool:
        return self.remaining is not None and self.asked > self.remaining.left + 1e-9


@dataclass(frozen=True, kw_only=True)
class Check:
    """All lines of a form, and in one sentence whether it would be admitted."""

    lines: list[Line]
    ok: bool
    sentence: str


def form_of(spec: ClusterSpec) -> Form:
    worker = spec.worker
    return Form(
        engine=spec.engine,
        min_workers=spec.min_workers,
        max_workers=spec.max_workers,
        cpu=worker.cpu,
        memory=worker.memory,
        gpu=worker.gpu,
        gpu_type=worker.gpu_type,
    )


def first_form(options: ClusterOptions, engine: EngineName | None) -> Form:
    """The defaults of the wished engine, else of the first that this project has."""
    wished = engine_options(options, engine) if engine is not None else None
    usable = [one for one in options.engines if one.available]
    chosen = wished or (usable or options.engines or [EngineOptions(engine="ray", available=False)])[0]
    if chosen.default is not None:
        return fit(form_of(chosen.default), options)
    return fit(Form(engine=chosen.engine), options)


def engine_options(options: ClusterOptions, engine: EngineName) -> EngineOptions | None:
    return next((one for one in options.engines if one.engine == engine), None)


def fit(form: Form, options: ClusterOptions) -> Form:
    """The form inside the service's bounds: a value out of them becomes the nearest within."""
    most = max(1, min(form.max_workers, options.max_workers))
    gpu = max(0, min(form.gpu, options.max_worker.gpu))
    kinds = options.gpu_types
    kind = form.gpu_type if form.gpu_type in kinds else (kinds[0] if kinds else None)
    return replace(
        form,
        max_workers=most,
        min_workers=max(0, min(form.min_workers, most)),
        cpu=max(min(CPU_STEP, options.max_worker.cpu), min(form.cpu, options.max_worker.cpu)),
        memory=max(min(MEMORY_STEP, options.max_worker.memory), min(form.memory, options.max_worker.memory)),
        gpu=gpu,
        gpu_type=kind if gpu else None,
    )


def change(form: Form, field: str, value: object, options: ClusterOptions) -> Form:
    """The form after the person moved one field. Least and most workers push each other; nonsense changes nothing."""
    if field == "engine":
        chosen = next((one for one in options.engines if one.engine == value), None)
        return form if chosen is None else replace(form, engine=chosen.engine)
    if field == "on_notebook_end":
        return replace(form, on_notebook_end="keep" if value == "keep" else "stop")
    if field == "gpu_type":
        return fit(replace(form, gpu_type=str(value)), options)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return form
    if field == "min_workers":
        least = max(0, min(int(value), options.max_workers))
        return fit(replace(form, min_workers=least, max_workers=max(least, form.max_workers)), options)
    if field == "max_workers":
        most = max(1, min(int(value), options.max_workers))
        return fit(replace(form, max_workers=most, min_workers=min(most, form.min_workers)), options)
    if field == "cpu":
        return fit(replace(form, cpu=float(value)), options)
    if field == "memory":
        return fit(replace(form, memory=int(value)), options)
    if field == "gpu":
        return fit(replace(form, gpu=int(value)), options)
    return form


def total(form: Form, options: ClusterOptions) -> dict[str, float]:
    """What the cluster holds at its maximum, by resource."""
    head, most = options.head, form.max_workers
    found: dict[str, float] = {
        "cpu": head.cpu + most * form.cpu,
        "memory": float(head.memory + most * form.memory),
    }
    gpus = head.gpu + most * form.gpu
    if gpus:
        found["gpu"] = float(gpus)
    if form.gpu and form.gpu_type:
        found[f"gpu:{form.gpu_type}"] = float(most * form.gpu)
    found["clusters"] = 1.0
    return found


def check(form: Form, options: ClusterOptions) -> Check:
    """Compare the total with what is left."""
    left = {one.resource: one for one in options.remaining}
    lines = [
        Line(resource=name, asked=amount, remaining=left.get(name)) for name, amount in total(form, options).items()
    ]
    engine = engine_options(options, form.engine)
    if engine is not None and not engine.available:
        return Check(lines=lines, ok=False, sentence=engine.why_not or f"This project cannot run {form.engine}.")
    over = [line for line in lines if line.over]
    if not over:
        return Check(lines=lines, ok=True, sentence="This fits in what is left.")
    return Check(lines=lines, ok=False, sentence=_over_sentence(over[0], form, options))


def _over_sentence(line: Line, form: Form, options: ClusterOptions) -> str:
    assert line.remaining is not None
    asked, left = show_amount(line.resource, line.asked), show_amount(line.resource, max(0.0, line.remaining.left))
    room = workers_that_fit(form, options)
    if room >= 1:
        advice = f"At most {room} {'worker fits' if room == 1 else 'workers of this size fit'}."
    else:
        advice = "Choose smaller workers, or stop something that you run."
    return f"This asks for {asked}; left: {left}, for {line.remaining.rule.rstrip('.')}. {advice}"


def workers_that_fit(form: Form, options: ClusterOptions) -> int:
    """The largest number of workers of this size that what is left allows; 0 when not even one."""
    left = {one.resource: one for one in options.remaining}
    for most in range(options.max_workers, 0, -1):
        asked = total(replace(form, max_workers=most, min_workers=0), options)
        if all(name not in left or amount <= left[name].left + 1e-9 for name, amount in asked.items()):
            return most
    return 0
