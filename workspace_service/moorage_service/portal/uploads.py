"""Forms with files or with fields whose names depend on the notebook: read whole, bounded, before anything is done."""

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import UploadFile

from moorage_service.errors import BadRequest, TooLarge

LARGEST = 32 << 20  # bytes of a whole form; a snapshot may have 25 MiB
_MOST_FILES, _MOST_FIELDS = 250, 400


@dataclass(frozen=True)
class Sent:
    """A form: fields in order, and files as (field, file name without folders, content)."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: list[tuple[str, str, bytes]] = field(default_factory=list)

    def one(self, name: str, default: str = "") -> str:
        return self.fields.get(name, [default])[0]

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])

    def under(self, prefix: str) -> dict[str, str]:
        """The fields whose names begin with `prefix`, without it."""
        return {name[len(prefix) :]: values[0] for name, values in self.fields.items() if name.startswith(prefix)}


async def _read(request: Request) -> Sent:
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise BadRequest("This form came without its length. Send it from the portal's own page.")
    if int(length) > LARGEST:
        raise TooLarge(
            f"What you sent has {int(length) >> 20} MiB; a notebook and the files beside it may have 25 MiB together. "
            "Keep data outside the snapshot."
        )
    sent = Sent()
    async with request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                sent.fields.setdefault(name, []).append(value)
            elif value.filename:
                file_name = PurePosixPath(value.filename.replace("\\", "/")).name
                sent.files.append((name, file_name, await value.read()))
    return sent


Form = Annotated[Sent, Depends(_read)]
