"""NAME.localhost for httpx, as browsers know it: not every machine's resolver does."""

import httpx


class LoopbackNames(httpx.HTTPTransport):
    """Every name leads to 127.0.0.1; the Host header and the cookies are those of the name."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        there = httpx.Request(
            request.method, request.url.copy_with(host="127.0.0.1"), headers=request.headers, stream=request.stream,
            extensions=request.extensions,
        )  # fmt: skip
        return super().handle_request(there)
