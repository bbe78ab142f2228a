"""Plans of the engines, and what is derived from them: command lines, environments, manifests. All pure."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509

from moorage.wire import ClusterSpec, Size
from moorage_service.clusters import credentials, manifests
from moorage_service.clusters.engines import ENGINES
from moorage_service.clusters.engines.ray import worker_offer
from moorage_service.clusters.plan import ClusterPlan, Site
from moorage_service.clusters.platforms.base import Order
from moorage_service.clusters.platforms.local import argv, environ
from moorage_service.clusters.ports import SIZE, block_ports
from moorage_spawners.launch import Identity

GIB = 1 << 30
RAY_SPEC = ClusterSpec(
    engine="ray", min_workers=1, max_workers=3, worker=Size(cpu=2, memory=4 * GIB, gpu=1, gpu_type="h200")
)
DASK_SPEC = ClusterSpec(engine="dask", min_workers=0, max_workers=2, worker=Size(cpu=2.5, memory=2 * GIB))
HEAD = Size(cpu=0.5, memory=GIB)


def local_plan(spec: ClusterSpec) -> ClusterPlan:
    engine = ENGINES[spec.engine]
    ports = block_ports(24100, 2, engine.port_names)
    site = Site(
        host="127.0.0.1", bind="127.0.0.1", folder="/s/x", ports=ports, prefix="/services/moorage/dashboards/cl-x"
    )
    return engine.plan(spec, HEAD, site)


def cluster_plan(spec: ClusterSpec) -> ClusterPlan:
    """As for an operator: hosts of their own, so well-known ports."""
    ports = (
        {"gcs": 6379, "client": 10001, "dashboard": 8265}
        if spec.engine == "ray"
        else {"scheduler": 8786, "dashboard": 8787}
    )
    site = Site(host="head.ns.svc", bind="0.0.0.0", folder="/credentials", ports=ports, prefix="/d/", shared=False)
    return ENGINES[spec.engine].plan(spec, HEAD, site)


def order(plan: ClusterPlan) -> Order:
    return Order(
        cluster_id="cl-x", generation=3, plan=plan, environment="e", identity=Identity(1234, 1234, "/home/ada"),
        credentials={"token": "t0ken", "agent": "moor_agent"}, variables={"MOORAGE_USER": "ada"}, secrets={"KEY": "secret"},
    )  # fmt: skip


def test_every_port_of_a_ray_head_is_told_and_lies_in_its_block() -> None:
    plan = local_plan(RAY_SPEC)
    told = {int(value) for name, value in plan.head.flags.items() if name.endswith("port") and value and value != "0"}
    told |= {int(value) for name, value in plan.head.env.items() if name.endswith("METRIC_PORT")}
    assert told == set(plan.ports.values())
    assert all(24100 + 2 * SIZE <= port < 24100 + 3 * SIZE for port in told)


def test_a_ray_head_runs_no_work_and_no_autoscaler_and_asks_for_a_token() -> None:
    plan = local_plan(RAY_SPEC)
    assert plan.head.flags["num-cpus"] == "0"
    assert plan.head.flags["dashboard-host"] == "127.0.0.1"
    assert "no-monitor" in plan.head.flags
    for role in (plan.head, plan.worker, plan.agent):
        assert role.env["RAY_AUTH_MODE"] == "token"
    assert plan.secret_env == {"RAY_AUTH_TOKEN": "token"}


def test_a_ray_worker_offers_its_size() -> None:
    plan = local_plan(RAY_SPEC)
    command = plan.worker.named("worker-7").command()
    assert {"--num-cpus=2", "--num-gpus=1", "--address=127.0.0.1:24140", "--block"} <= set(command)
    assert plan.worker.named("worker-7").env["RAY_CLOUD_INSTANCE_ID"] == "worker-7"
    assert worker_offer(Size(cpu=0.5, memory=GIB))["CPU"] == 1  # or no task of one core would ever run
    offer = worker_offer(RAY_SPEC.worker)
    assert offer["memory"] + int(plan.worker.flags["object-store-memory"] or 0) == 4 * GIB


def test_dask_links_are_tls_with_the_cluster_s_own_authority() -> None:
    plan = local_plan(DASK_SPEC)
    assert plan.head.flags["protocol"] == "tls"
    assert plan.head.flags["dashboard-address"] == f"127.0.0.1:{plan.ports['dashboard']}"
    assert plan.head.flags["dashboard-prefix"] == "services/moorage/dashboards/cl-x"
    for role in (plan.head, plan.worker, plan.agent):
        assert role.env["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
        assert role.env["DASK_DISTRIBUTED__COMM__TLS__CA_FILE"] == "/s/x/ca.pem"
    worker = plan.worker.named("worker-1").command()
    assert worker[:3] == ("dask", "worker", f"tls://127.0.0.1:{plan.ports['scheduler']}")
    assert {"--name=worker-1", "--nthreads=2", f"--memory-limit={2 * GIB}"} <= set(worker)


def test_processes_are_started_by_module_with_an_environment_of_their_own() -> None:
    plan = local_plan(RAY_SPEC)
    assert argv("/e/bin/python", plan.head)[:4] == ("/e/bin/python", "-m", "ray.scripts.scripts", "start")
    found = environ(order(plan), plan.worker, "/e", "/s/x", "http://127.0.0.1:1/services/moorage", ["GPU-1"])
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert found["PYTHONNOUSERSITE"] == "1"
    assert found["RAY_AUTH_TOKEN"] == "t0ken"
    assert found["KEY"] == "secret"


def test_the_cluster_s_own_token_goes_to_its_agent_alone_and_secrets_do_not_go_there() -> None:
    plan = local_plan(RAY_SPEC)
    agent = environ(order(plan), plan.agent, "/e", "/s/x", "http://service", [])
    assert agent["MOORAGE_TOKEN"] == "moor_agent"
    assert agent["MOORAGE_GENERATION"] == "3"
    assert "KEY" not in agent
    for role in (plan.head, plan.worker):
        assert "MOORAGE_TOKEN" not in environ(order(plan), role, "/e", "/s/x", "http://service", [])


def test_a_secret_can_not_replace_what_a_process_is_told() -> None:
    plan = local_plan(RAY_SPEC)
    given = replace(order(plan), secrets={"RAY_AUTH_MODE": "disabled", "PATH": "/evil", "RAY_AUTH_TOKEN": "known"})
    found = environ(given, plan.head, "/e", "/s/x", "http://service", [])
    assert (found["RAY_AUTH_MODE"], found["RAY_AUTH_TOKEN"]) == ("token", "t0ken")
    assert found["PATH"].startswith("/e/bin:")


def test_no_command_line_holds_a_credential() -> None:
    for spec in (RAY_SPEC, DASK_SPEC):
        plan = local_plan(spec)
        for role in (plan.head, plan.worker, plan.agent):
            assert "t0ken" not in " ".join(role.command())


def test_a_fresh_certificate_belongs_to_its_cluster_alone() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    one, other = (credentials.certificates(name, ("localhost",), now) for name in ("cl-a", "cl-b"))
    assert one["ca"] != other["ca"]
    member = x509.load_pem_x509_certificate(one["cert"].encode())
    member.verify_directly_issued_by(x509.load_pem_x509_certificate(one["ca"].encode()))
    with pytest.raises(Exception, match="does not match"):
        member.verify_directly_issued_by(x509.load_pem_x509_certificate(other["ca"].encode()))
    ssl.create_default_context(cadata=one["ca"])


@pytest.mark.parametrize(
    ("engine", "packages", "says"),
    [
        ("ray", {}, "has no Ray"),
        ("ray", {"ray": "2.40.0", "aiohttp-cors": "1"}, "2.40.0"),
        ("ray", {"ray": "2.60.0"}, "without its dashboard"),
        ("dask", {"dask": "2026.8.0"}, "no Dask"),
        ("dask", {"distributed": "2025.9.0"}, "2025.9.0"),
    ],
)
def test_an_environment_without_the_engine_is_told_the_remedy(engine: str, packages: dict[str, str], says: str) -> None:
    sentence = ENGINES[engine].missing(packages)  # type: ignore[index]
    assert sentence is not None
    assert says in sentence
    assert "moorage.yaml" in sentence


def test_an_environment_with_the_engine_is_fit() -> None:
    assert ENGINES["ray"].missing({"ray": "2.60.0", "aiohttp-cors": "0.8"}) is None
    assert ENGINES["dask"].missing({"distributed": "2026.1.0"}) is None


def test_a_ray_cluster_manifest_asks_for_a_token_and_leaves_scaling_to_us() -> None:
    target = manifests.Target(
        name="ws-ab", namespace="ada", image="registry/e@sha256:1", labels={"moorage/owner": "us-1"}
    )
    manifest = manifests.ray_cluster(cluster_plan(RAY_SPEC), target, ray_version="2.60.0", workers=2)
    spec = manifest["spec"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    assert spec["authOptions"] == {"mode": "token", "secretName": "ws-ab"}
    assert spec["enableInTreeAutoscaling"] is False
    group = spec["workerGroupSpecs"][0]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 1, 3)
    worker = group["template"]["spec"]["containers"][0]
    assert worker["resources"]["limits"] == {"cpu": "2000m", "memory": str(4 * GIB), "nvidia.com/gpu": 1}
    for part in (spec["headGroupSpec"], group):
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
        assert not {"address", "head", "port", "temp-dir"} & set(part["rayStartParams"])
        assert part["template"]["metadata"]["labels"] == {"moorage/owner": "us-1"}
        assert part["template"]["spec"]["automountServiceAccountToken"] is False
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    head, agent = spec["headGroupSpec"]["template"]["spec"]["containers"]
    assert (head["name"], agent["name"]) == ("ray-head", "agent")  # the operator wants the head first


def test_a_dask_cluster_manifest_speaks_tls() -> None:
    target = manifests.Target(name="ws-cd", namespace="ada", image="registry/e@sha256:1")
    manifest = manifests.dask_cluster(cluster_plan(DASK_SPEC), target, workers=1)
    spec = manifest["spec"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    worker = spec["worker"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in worker["env"]}
    assert env["DASK_SCHEDULER_ADDRESS"] == "tls://ws-cd-scheduler.ada.svc:8786"
    assert env["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "True"
    assert worker["volumeMounts"][0]["mountPath"] == "/credentials"
    assert "--name=$(DASK_WORKER_NAME)" in worker["args"]
    assert {port["name"] for port in spec["scheduler"]["service"]["ports"]} == {"tcp-comm", "http-dashboard"}


def test_manifests_hold_secrets_by_reference_only() -> None:
    target = manifests.Target(name="ws-ab", namespace="ada", image="i")
    ray = manifests.ray_cluster(cluster_plan(RAY_SPEC), target, ray_version="2.60.0", workers=1)
    containers = ray["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    tokens = [
        each
        for container in containers
        for each in container["env"]
        if each["name"] in ("RAY_AUTH_TOKEN", "MOORAGE_TOKEN")
    ]
    assert tokens
    assert all(list(each) == ["name", "valueFrom"] for each in tokens)


def test_a_ray_name_that_the_operator_would_cut_is_refused() -> None:
    target = manifests.Target(name="w" * 51, namespace="n", image="i")
    with pytest.raises(ValueError, match="longer than 50"):
        manifests.ray_cluster(cluster_plan(RAY_SPEC), target, ray_version="2.60.0", workers=1)
