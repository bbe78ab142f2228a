"""A Debian in a folder: `apt-get` and `apt-cache` as programs of it, which know some packages and change the folder `root`."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

_GET = """\
#!/bin/sh
# What it is asked: apt-get --config-file=FILE COMMAND ...
here=$(dirname "$0") root="$here/root"
echo "$*" >> "$here/asked"; cat "${1#--config-file=}" > "$here/config"
case $2 in
update) [ -f "$here/unreachable" ] || exit 0
    echo "Err:1 http://mirror.example.org trixie InRelease"
    echo "E: Failed to fetch http://mirror.example.org/InRelease  Could not resolve 'mirror.example.org'"
    echo "E: Some index files failed to download." ; exit 100 ;;
install)
    if [ -f "$here/fails" ]; then cat "$here/fails"; exit 100; fi
    for name; do
        grep -qx -- "$name" "$here/names" || continue
        echo "Setting up $name (1.0) ..."
        mkdir -p "$root/usr/bin" "$root/var/log/apt" "$root/opt/moorage/server"
        echo "echo I am $name" > "$root/usr/bin/$name"; chmod 4755 "$root/usr/bin/$name"
        echo "$name" >> "$root/var/lib/dpkg/status"; echo "$name" >> "$root/var/log/apt/history.log"
        touch "$root/opt/moorage/server/$name"; rm -f "$root/etc/old"
    done ;;
esac
"""
_CACHE = """\
#!/bin/sh
[ "$2" = pkgnames ] && cat "$(dirname "$0")/names"
"""


@dataclass(frozen=True)
class FakeApt:
    """`folder` is what a pod's PATH names."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def asked(self) -> list[str]:
        """The arguments of each `apt-get`."""
        return (self.folder / "asked").read_text().splitlines()

    @property
    def config(self) -> str:
        """What the last one was told by its file."""
        return (self.folder / "config").read_text()

    def unreachable(self) -> None:
        (self.folder / "unreachable").touch()

    def fail(self, said: str) -> None:
        (self.folder / "fails").write_text(said)


def fake_apt(folder: Path, *names: str) -> FakeApt:
    for path, text in (("usr/bin/old", "#!/bin/sh\n"), ("var/lib/dpkg/status", "old\n"), ("etc/old", "")):
        place = folder / "root" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    for program in ("sh", "cat", "grep", "mkdir", "chmod", "touch", "rm", "dirname"):
        where = next(Path(each) / program for each in os.environ["PATH"].split(":") if (Path(each) / program).exists())
        (folder / program).symlink_to(where)
    (folder / "names").write_text("".join(f"{name}\n" for name in names))
    (folder / "asked").touch()
    for program, text in (("apt-get", _GET), ("apt-cache", _CACHE)):
        (folder / program).write_text(text)
        (folder / program).chmod(stat.S_IRWXU)
    return FakeApt(folder)
