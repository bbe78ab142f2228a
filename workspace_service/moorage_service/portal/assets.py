"""Files that pages load: ours, and Swagger UI's. Nothing comes from another host."""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, Request, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from moorage_service.portal import render
from moorage_service.portal.access import PageRoute, PageUser
from moorage_service.settings import PREFIX

router = APIRouter(include_in_schema=False, route_class=PageRoute)

SWAGGER = Path(fastapi_offline.__file__).parent / "static"


class KeptFiles(StaticFiles):
    """Files that a browser may keep for a year when their address names their content (`?v=`)."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        kept = b"v=" in scope.get("query_string", b"")
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def mounts() -> list[Mount]:
    """Open to anybody: they tell nothing of anybody."""
    return [
        Mount(f"{PREFIX}/static/swagger", KeptFiles(directory=SWAGGER), name="swagger-files"),
        Mount(f"{PREFIX}/static", KeptFiles(directory=render.STATIC), name="static-files"),
    ]


@router.get("/api/v1/docs")
def api_docs(request: Request, caller: PageUser) -> Response:
    """Swagger UI on our own openapi.json. Requests made there carry the browser's session."""
    response = render.page(request, caller, "docs.html")
    # Swagger UI sets style attributes, and shows icons from data addresses.
    response.headers["Content-Security-Policy"] = render.POLICY.replace(
        "style-src 'self'", "style-src 'self' 'unsafe-inline'"
    )
    return response
