"""GPUs of a cluster, by type: how many are lent, who may hold them, and what the namespace's quota says."""

# ruff: noqa: F401, F811

import re
from dataclasses import replace

from sqlalchemy import delete, select

from moorage_service.ledger.backstop import hard_quota
from moorage_service.store.tables import LimitRow, UserRow
from moorage_spawners.launch.kubernetes_settings import (
    GpuType,
)
from tests.service.conftest import Headers
from tests.service.notebook_pods_bench import CLUSTER, Desk, desk, settings
from tests.service.portal_bench import sign_in


def test_gpus_are_lent_by_type_as_far_as_the_cluster_has_them(desk: Desk) -> None:
    refused = desk.admit(gpu=1, gpu_type="h200")
    assert refused.status_code == 409
    assert "this cluster can lend at most 0" in refused.json()["message"]
    unknown = desk.admit(gpu=1, gpu_type="a100")
    assert "this cluster can lend at most 0" in unknown.json()["message"]
    assert unknown.json()["message"].endswith("The GPU types here: h200, t4. Ask for one of them.")
    assert desk.admit(gpu=3, gpu_type="t4").status_code == 409
    assert desk.admitted(gpu=2, gpu_type="t4")["gpu_devices"] == []


def test_where_limits_go_by_type_a_gpu_without_one_is_refused(desk: Desk) -> None:
    """The cluster chooses the device, after admission: it might be of a type that nobody was charged for."""
    refused = desk.admit(gpu=1)
    assert refused.status_code == 400
    assert refused.json()["message"] == (
        "gpu_type: which type of GPU? There are limits by type here, so choose one of h200, t4."
    )


def test_the_start_page_offers_any_type_only_where_no_limit_goes_by_type(desk: Desk) -> None:
    ada = sign_in(desk.client, desk.context, desk.ada, "ada")
    kinds = re.compile(r'<select id="gpu_type".*?</select>', re.DOTALL)

    def offered() -> list[str]:
        (select_,) = kinds.findall(ada.page("/"))
        return re.findall(r"<option[^>]*>([^<]*)", select_)

    assert offered() == ["h200", "t4"]
    with desk.context.database.begin() as session:
        session.execute(delete(LimitRow))
    desk.context.capacity = replace(desk.context.capacity, amounts={"cpu": 8000})
    assert offered() == ["any", "h200", "t4"]


def test_the_quota_of_gpus_is_what_all_types_of_a_resource_may_be_together(desk: Desk, admin: Headers) -> None:
    def quota(limits: dict[str, int]) -> dict[str, str]:
        with desk.context.database.begin() as session:
            session.execute(delete(LimitRow))
        for resource, amount in limits.items():
            body = {"scope": "everyone", "sharing": "each", "resource": resource, "amount": amount}
            assert desk.client.post("/api/v1/limits", headers=admin, json=body).status_code == 201
        slices = {"slice": GpuType(nodeLabels={"gpu": "slice"}, resource="nvidia.com/mig-1g.10gb")}
        settings = CLUSTER.model_copy(update={"gpu_types": {**CLUSTER.gpu_types, **slices}, "quota": {}})
        with desk.context.database.read() as session:
            ada = session.scalars(select(UserRow).where(UserRow.hub_name == "ada")).one()
            return hard_quota(session, settings, ada)

    usual, slices = "requests.nvidia.com/gpu", "requests.nvidia.com/mig-1g.10gb"
    assert quota({"gpu:t4": 1}) == {}
    assert quota({"gpu:t4": 1, "gpu:h200": 2}) == {usual: "3"}
    assert quota({"gpu:t4": 1, "gpu:h200": 2, "gpu": 2, "gpu:slice": 1}) == {usual: "2", slices: "1"}
    assert quota({"gpu": 4}) == {usual: "4", slices: "4"}
