"""Request bodies that are no JSON: text and archives, bounded while they arrive."""

from typing import Annotated

from fastapi import Depends, Request

from moorage_images.strictyaml import LONGEST
from moorage_service.errors import BadRequest, TooLarge
from moorage_service.projects.archive import LARGEST_UPLOAD


async def _read(request: Request, most: int, what: str) -> bytes:
    parts = []
    left = most
    async for part in request.stream():
        left -= len(part)
        if left < 0:
            raise TooLarge(f"{what} is larger than {most >> 10} KiB. Send less.")
        parts.append(part)
    return b"".join(parts)


async def _archive(request: Request) -> bytes:
    return await _read(request, LARGEST_UPLOAD, "The archive")


async def _text(request: Request) -> str:
    content = await _read(request, 4 * LONGEST, "moorage.yaml")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("manifest: this is not UTF-8 text. Save moorage.yaml as such.", field="manifest") from error


ArchiveBody = Annotated[bytes, Depends(_archive)]
TextBody = Annotated[str, Depends(_text)]
