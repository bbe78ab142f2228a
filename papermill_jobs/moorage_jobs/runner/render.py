"""A notebook as HTML, in a process of its own with bounds: `python -m moorage_jobs.runner.render IN OUT MEMORY
CPU_SECONDS`.

Nothing is sanitised: a run's plots are scripts. The service serves the page in a sandbox, on no origin.
"""

import resource
import sys
from pathlib import Path

from moorage_jobs.runner.outputs import write_atomically


def render(source: Path, target: Path) -> None:
    """Writes `target`; raises what nbconvert raises."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab")  # type: ignore[no-untyped-call]
    exporter.exclude_input_prompt = True
    body, _ = exporter.from_filename(str(source))
    write_atomically(target, body.encode("utf-8", "backslashreplace"))


def main(arguments: list[str]) -> None:
    source, target, memory, seconds = arguments
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    render(Path(source), Path(target))


if __name__ == "__main__":
    main(sys.argv[1:])
