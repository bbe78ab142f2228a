"""Packages of Debian, installed by apt into the very image that this runs in, as its root; and why it could not be, in words."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moorage_images.errors import BuildError
from moorage_images.network import network_environment
from moorage_images.resolve import why
from moorage_images.sandbox import Log

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FULL = "no space left on device"
_MOST_NAMED = 5
_INSTALL = (
    "install", "--yes", "--no-install-recommends", "--no-remove", "-o", "Dpkg::Use-Pty=0", "-o", "Dpkg::Options::=--force-unsafe-io",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Apt:
    """`sources`: in place of the image's own, in the form of a .sources file; `settings`: further ones, as apt.conf has them.

    `authorities`: a file with those that mirrors are known by, if not the image's own. `path`: where programs are looked for.
    """

    scratch: Path
    sources: str = ""
    settings: str = ""
    authorities: Path | None = None
    path: str = PATH

    def install(self, packages: Sequence[str], log: Log) -> None:
        """Raises BuildError in words. It runs packages' own scripts."""
        config = self._config()
        log("Reading the lists of Debian's packages.")
        self._run(
            ["apt-get", config, "update", "--error-on=any"],
            log,
            "The lists of Debian's packages can't be read",
            _MIRROR,
        )
        _check(packages, self._run(["apt-cache", config, "pkgnames"], None, "apt can't say what it has", _MIRROR))
        log(f"Installing {len(packages)} packages of Debian, and what they need.")
        argv = ["apt-get", config, *_INSTALL, *packages]
        self._run(
            argv,
            log,
            "The packages of `system:` can't be installed",
            "Correct `system:` in moorage.yaml and build again.",
        )

    def _config(self) -> str:
        lines = ['Acquire::Languages "none";', self.settings]
        if self.authorities is not None:
            lines.append(f'Acquire::https::CaInfo "{self.authorities}";')
        if self.sources:
            file = self.scratch / "moorage.sources"
            file.write_text(f"{self.sources.strip()}\n")
            lines += [f'Dir::Etc::SourceList "{file}";', 'Dir::Etc::SourceParts "-";']
        config = self.scratch / "moorage.conf"
        config.write_text("".join(f"{line}\n" for line in lines))
        return f"--config-file={config}"

    def _run(self, argv: Sequence[str], log: Log | None, what: str, remedy: str) -> list[str]:
        """What it said, line by line, as it was said to `log`."""
        said = []
        try:
            with subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._variables(os.environ),
                text=True, errors="replace",
            ) as process:  # fmt: skip
                assert process.stdout is not None
                for line in process.stdout:
                    said.append(line.rstrip("\n"))
                    if log is not None:
                        log(f"  {said[-1]}")
        except FileNotFoundError as error:
            raise BuildError(
                f"The notebook image has no {argv[0]}. `system:` needs an image that is made of Debian: ask an admin."
            ) from error
        if process.returncode != 0:
            raise _failure(process.returncode, said, what, remedy)
        return said

    def _variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        network = {name: text for name, text in network_environment(environ).items() if not name.startswith("UV_")}
        return {
            "PATH": self.path, "HOME": str(self.scratch), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **network,
        }  # fmt: skip


_MIRROR = "Build again; if it stays so, an admin has to look at the mirror (`builds.system.sources`) and the way to it."


def _check(packages: Sequence[str], names: Sequence[str]) -> None:
    """By their exact names: apt would take "x-" for "remove x", and a pattern for whatever it fits."""
    missing = [f"'{each}'" for each in packages if each not in set(names)]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise BuildError(
            f"apt has no package {', '.join(missing[:_MOST_NAMED])}{more}. Correct `system:` in moorage.yaml: the names are those of "
            "this image's Debian release."
        )


def _failure(code: int, said: Sequence[str], what: str, remedy: str) -> BuildError:
    if any(_FULL in line.lower() for line in said):
        return BuildError(
            "The disk was full while Debian's packages were installed. Ask for fewer, or ask an admin to raise `builds.disk`."
        )
    errors = [line.removeprefix("E: ") for line in said if line.startswith("E: ")]
    return BuildError(f"{what}: {why(code, errors or list(said))} {remedy}")
