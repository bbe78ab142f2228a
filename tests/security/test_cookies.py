"""No other host of the portal's domain signs a browser in at the portal."""

import pytest
from starlette.requests import Request
from starlette.responses import Response

from moorage_service.identity import cookies
from moorage_service.settings import PREFIX, Settings

SECURE = {"public_url": "https://moorage.example.org", "origins": "per-user"}


def given(settings: Settings) -> str:
    response = Response()
    cookies.give(response, settings, cookies.SESSION, "ours", max_age_s=60)
    return response.headers["set-cookie"]


def read(settings: Settings, header: str) -> str:
    request = Request({"type": "http", "headers": [(b"cookie", header.encode())]})
    return cookies.read(request, settings, cookies.SESSION)


def test_a_session_that_another_host_set_for_the_domain_is_none(settings: Settings) -> None:
    """A browser takes `__Host-` from the host itself alone; without it the last of two of one name would win."""
    settings = settings.model_copy(update=SECURE)
    assert read(settings, "__Host-moorage-session=ours; moorage-session=theirs") == "ours"
    assert read(settings, "moorage-session=theirs") == ""
    said = given(settings).split("; ")
    assert said[0] == "__Host-moorage-session=ours"
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(said)
    assert not any(each.lower().startswith("domain=") for each in said)
    response = Response()
    cookies.drop(response, settings, cookies.SESSION)
    assert {'__Host-moorage-session=""', "Max-Age=0", "Path=/", "Secure"} <= set(
        response.headers["set-cookie"].split("; ")
    )


@pytest.mark.parametrize("update", [{}, {**SECURE, "origins": "one"}])
def test_on_an_origin_for_all_it_goes_to_the_portals_paths_alone(settings: Settings, update: dict[str, str]) -> None:
    said = given(settings.model_copy(update={"origins": "one", **update})).split("; ")
    assert (said[0], f"Path={PREFIX}" in said) == ("moorage-session=ours", True)
