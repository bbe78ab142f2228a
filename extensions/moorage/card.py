"""A cluster as a small table, for a notebook's output. Everything that comes from elsewhere is escaped."""

from html import escape

from moorage import wire
from moorage.quantities import show_cpu, show_memory


def cluster_card(state: wire.Cluster, dashboard: str | None) -> str:
    """HTML in the colours of JupyterLab's theme."""
    rows = [
        ("Phase", escape(str(state.phase)) + (f" - {escape(state.reason)}" if state.reason else "")),
        ("Workers", f"{state.workers} now, {state.spec.min_workers} to {state.spec.max_workers}"),
        ("Each worker", escape(size_text(state.spec.worker))),
    ]
    if state.versions:
        rows.append(("Versions", escape(versions_text(state.versions))))
    if dashboard is not None and not state.phase.ended:
        link = escape(dashboard, quote=True)
        rows.append(("Dashboard", f'<a href="{link}" target="_blank" rel="noopener">open</a>'))
    cells = "".join(
        f'<tr><th style="text-align:left;padding-right:1em">{name}</th><td style="text-align:left">{value}</td></tr>'
        for name, value in rows
    )
    title = f"{escape(state.spec.engine.capitalize())} cluster {escape(state.name)}"
    return f"<table><caption style='text-align:left'><b>{title}</b></caption>{cells}</table>"


def size_text(size: wire.Size) -> str:
    """ "1 core, 2 GiB, 1 gpu (a100)"."""
    parts = [show_cpu(size.cpu), show_memory(size.memory)]
    if size.gpu:
        kind = f" ({size.gpu_type})" if size.gpu_type else ""
        parts.append(f"{size.gpu} {'gpu' if size.gpu == 1 else 'gpus'}{kind}")
    return ", ".join(parts)


def versions_text(versions: dict[str, str]) -> str:
    """ "python 3.11.2, ray 2.60.0"."""
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
