"""`helm test`: asks hub and service through the proxy, as a browser would. `check_answers.py PROXY PUBLIC_URL`.

Ends with 1 and a sentence for each that does not answer. The standard library alone, for it runs from a ConfigMap.
"""

import sys
import urllib.request
from urllib.parse import urlsplit

PATHS = {"proxy": "/_chp_healthz", "hub": "/hub/health", "service": "/services/moorage/health"}


def complaint(part: str, proxy: str, public_url: str) -> str | None:
    """None when `part` answers at the proxy under the public name."""
    headers = {"Host": urlsplit(public_url).netloc}
    request = urllib.request.Request(proxy + PATHS[part], headers=headers)  # noqa: S310 - the chart names the proxy
    try:
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            return None
    except OSError as error:  # HTTPError is one
        return f"The {part} does not answer at {request.full_url} as {public_url}: {error}. Look at its pod's log."


if __name__ == "__main__":
    complaints = [said for part in PATHS if (said := complaint(part, *sys.argv[1:3]))]
    sys.exit("\n".join(complaints) or None)
