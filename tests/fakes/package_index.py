"""A package index in a folder (as PEP 503 says): tiny wheels and source distributions that uv installs for real."""

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

_BACKEND = """
import base64, hashlib, os, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    extra = {{}}
    exec(open(os.path.join(os.path.dirname(__file__), "mischief.py")).read(), {{"extra": extra}})
    files = {{"{name}.py": "FOUND = " + repr(extra) + chr(10)}}
    info = "{name}-{version}.dist-info"
    files[info + "/METADATA"] = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n"
    files[info + "/WHEEL"] = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += path + ",sha256=" + digest + "," + str(len(text)) + "\\n"
    files[info + "/RECORD"] = record + info + "/RECORD,,\\n"
    wheel = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel
"""


class PackageIndex:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def variables(self) -> dict[str, str]:
        """The process environment that makes uv use this index alone."""
        return {"UV_DEFAULT_INDEX": self.folder.as_uri()}

    def _place(self, name: str, file: str) -> Path:
        """Where the file belongs, once it is listed on its package's page."""
        page = self.folder / name / "index.html"
        page.parent.mkdir(exist_ok=True)
        with page.open("a") as out:
            out.write(f'<a href="{file}">{file}</a><br>\n')
        return page.parent / file

    def wheel(self, name: str, version: str, files: dict[str, str], requires: tuple[str, ...] = ()) -> Path:
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        content = {
            **files,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},sha256={_hash(text)},{len(text.encode())}\n" for path, text in content.items())
        content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
        path = self._place(name, f"{name}-{version}-py3-none-any.whl")
        with zipfile.ZipFile(path, "w") as archive:
            for member, text in content.items():
                archive.writestr(zipfile.ZipInfo(member), text)
        path.chmod(0o644)
        return path

    def source(self, name: str, version: str, mischief: str) -> Path:
        """A source distribution whose build runs `mischief` and puts its dict `extra` into the module, as FOUND."""
        files = {
            "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": _BACKEND.format(name=name, version=version),
            "mischief.py": mischief,
        }
        path = self._place(name, f"{name}-{version}.tar.gz")
        with tarfile.open(path, "w:gz") as archive:
            for member, text in files.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{member}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        path.chmod(0o644)
        return path


def _hash(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def small_index(folder: Path) -> PackageIndex:
    """What every project environment needs, in stand-ins of a few lines, and the package `tide` in two versions."""
    index = PackageIndex(folder)
    index.wheel("ipykernel", "7.0.0", {"ipykernel/__init__.py": "", "ipykernel/kernelapp.py": ""})
    index.wheel("pip", "26.0", {"pip/__init__.py": ""})
    index.wheel("tide", "1.0", {"tide.py": "HEIGHT = 1\n"})
    index.wheel("tide", "2.0", {"tide.py": "HEIGHT = 2\n"})
    return index


def client_wheel(folder: Path) -> Path:
    """A stand-in for the wheel of the `moorage` client, without dependencies."""
    folder.mkdir(exist_ok=True)
    return PackageIndex(folder).wheel("moorage", "0.1.0", {"moorage/__init__.py": ""})
