"""The errors of this distribution: each has a stable code and a sentence that says what to do.

ImagesError
├── ManifestError            moorage.yaml can't be accepted; `field` names the place
├── BuildError               an environment can't be built; the log has the rest
│   └── UnsafeTreeError      what was built can't be trusted to be shared
├── BuildCancelledError      someone asked for it to stop
└── RegistryError            a registry of images did not do what was asked
    ├── UnauthorizedError    it wants other credentials
    ├── ImageNotFoundError   no such image is there
    ├── BlobLostError        an image is there, and a part of it is not
    ├── RefusedError         it refuses this, or what it answers is no image
    └── UnreachableError     it does not answer, or not soundly: worth another try
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


class RegistryError(ImagesError):
    code = "registry"


class UnauthorizedError(RegistryError):
    code = "registry_unauthorized"


class ImageNotFoundError(RegistryError):
    code = "image_not_found"


class BlobLostError(RegistryError):
    code = "image_blob_lost"


class RefusedError(RegistryError):
    code = "registry_refused"


class UnreachableError(RegistryError):
    code = "registry_unreachable"
