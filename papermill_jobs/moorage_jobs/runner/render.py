"""A notebook as HTML, in a process of its own with bounds.

`python -m moorage_jobs.runner.render IN OUT TITLE MEMORY CPU_SECONDS`. Nothing is sanitised: a run's plots are scripts. The
service serves the page in a sandbox, on no origin. The page asks no other address for anything.
"""

import resource
import sys
from pathlib import Path

from moorage_jobs.runner.outputs import write_atomically

# nbconvert's own page loads require.js, MathJax and Mermaid from elsewhere: that fails offline, and tells who looks at what.
_TEMPLATE = (
    "{% extends 'index.html.j2' %}"
    "{% block html_head_js_requirejs %}{% endblock %}"
    "{% block html_head_js_mathjax %}{% endblock %}"
    "{% block html_head_js_mermaidjs %}{% endblock %}"
)


def render(source: Path, target: Path, title: str) -> None:
    """Writes `target`; raises what nbconvert raises."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")  # type: ignore[no-untyped-call]
    exporter.raw_template = _TEMPLATE
    exporter.exclude_input_prompt = True
    notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})
    write_atomically(target, body.encode("utf-8", "backslashreplace"))


def main(arguments: list[str]) -> None:
    source, target, title, memory, seconds = arguments
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    render(Path(source), Path(target), title)


if __name__ == "__main__":
    main(sys.argv[1:])
