"""The chart's tests need helm, and nothing else: no cluster."""

import pytest

from tests.chart.rendering import Chart, find_helm


@pytest.fixture(scope="session")
def chart() -> Chart:
    helm = find_helm()
    if helm is None or not helm.exists():
        pytest.skip(f"helm is missing ({helm or 'MOORAGE_HELM is not set'}); the chart is not rendered")
    return Chart(helm)
