"""The errors of this distribution: each has a stable code and a sentence that says what to do.

ImagesError
├── ManifestError            moorage.yaml can't be accepted; `field` names the place
├── BuildError               an environment can't be built; the log has the rest
│   └── UnsafeTreeError      what was built can't be trusted to be shared
└── BuildCancelledError      someone asked for it to stop
"""

from typing import ClassVar


class ImagesError(Exception):
    code: ClassVar[str] = "images"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ManifestError(ImagesError):
    code = "manifest"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class BuildError(ImagesError):
    code = "build_failed"


class UnsafeTreeError(BuildError):
    code = "build_unsafe"


class BuildCancelledError(ImagesError):
    code = "build_cancelled"
