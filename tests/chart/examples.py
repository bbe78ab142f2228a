"""Values that people install with; each test of what must hold for all goes through them."""

from typing import Any

OIDC: dict[str, Any] = {
    "JupyterHub": {"authenticator_class": "generic-oauth"},
    "GenericOAuthenticator": {"client_id": "moorage", "authorize_url": "https://id.example.org/authorize"},
}
CLOUD: dict[str, Any] = {
    "hub": {
        "config": OIDC,
        "settings": {"allowed_email_domains": ["example.org"]},
        "db": {"type": "postgres", "existingSecret": {"name": "hub-database"}},
        "extraEnv": {
            "OAUTH_CLIENT_SECRET": {"valueFrom": {"secretKeyRef": {"name": "oidc", "key": "secret"}}},
            "LANG": "C.UTF-8",
        },
    },
    "service": {
        "replicas": 2,
        "pvc": {"accessModes": ["ReadWriteMany"], "storageClassName": "nfs"},
        "settings": {"cluster_idle_s": 900},
    },
    "database": {"url": "postgresql://moorage:canary-password@db.example.org/moorage"},
    "ingress": {
        "enabled": True,
        "ingressClassName": "nginx",
        "hosts": ["moorage.example.org"],
        "tls": [{"hosts": ["moorage.example.org", "*.moorage.example.org"], "secretName": "moorage-tls"}],
    },
    "imagePullSecrets": ["pull"],
    "gpu": {
        "types": {
            "h200": {
                "nodeLabels": {"nvidia.com/gpu.product": "NVIDIA-H200"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            }
        }
    },
    "registry": {"url": "registry.example.org/moorage", "pushSecret": "push", "pullSecret": "pull"},
    "clusters": {"kuberay": {"enabled": True}, "daskOperator": {"enabled": True}},
    "scheduling": {
        "corePods": {"nodeSelector": {"pool": "core"}, "tolerations": [{"key": "core", "operator": "Exists"}]}
    },
    "singleuser": {"nodeSelector": {"pool": "users"}, "extraTolerations": [{"key": "users", "operator": "Exists"}]},
    "prePuller": {"extraImages": {"vision": {"name": "registry.example.org/vision", "tag": "sha256:" + "0" * 64}}},
    "userNamespaces": {"quota": {"requests.memory": "64Gi"}},
}
GATEWAY: dict[str, Any] = {
    "hub": {"config": OIDC},
    "gateway": {
        "enabled": True,
        "hostnames": ["moorage.example.org"],
        "parentRefs": [{"name": "public", "namespace": "gateways"}],
    },
}
JOINED: dict[str, Any] = {  # neither hub nor proxy are the chart's then
    "existingHub": {"enabled": True, "hubLabels": {"release": "theirs"}},
    "publicUrl": "https://jupyter.example.org",
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "cloud": CLOUD,
    "gateway": GATEWAY,
    "load balancer": {
        "hub": {"config": OIDC},
        "publicUrl": "https://moorage.example.org",
        "proxy": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}},
    },
    "namespaced": {"rbac": {"mode": "namespaced", "namespaces": ["team-a", "team-b"]}},
    "bare": {
        "hub": {"pdb": {"enabled": False}, "db": {"pvc": {"existingClaim": "there"}}},
        "service": {"pdb": {"enabled": False}, "pvc": {"existingClaim": "there-too"}},
        "proxy": {"chp": {"pdb": {"enabled": False}}},
        "networkPolicy": {"enabled": False},
        "scheduling": {"podPriority": {"enabled": False}},
        "prePuller": {"hook": {"enabled": False}, "continuous": {"enabled": False}},
        "secrets": {"existingSecret": "ours"},
    },
    "an address without a name": {
        "hub": {"config": OIDC},
        "publicUrl": "https://192.0.2.7",
        "proxy": {"service": {"type": "NodePort", "nodePort": 30080}},
        "networkPolicy": {
            "proxyFrom": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
            "monitoringFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "extraEgress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}],
            "blockedAddresses": ["169.254.169.254/32", "fd00:ec2::254/128"],
        },
    },
}
