"""Every value of the chart: its default, another value, and the values beside which it has an effect."""

from __future__ import annotations

import copy
from typing import Any

from tools.chart import describe
from tools.chart.program import CHART

TOP = describe.read(CHART / "values.yaml")
LEAVES = {".".join(leaf.path): leaf for leaf in TOP.leaves()}

NVIDIA = {"image": "nvcr.io/nvidia/tritonserver:25.10-py3", "gpus": 1}
SCALED = {"autoscaling": {"maxReplicas": 3}}
ROUTED = {"enabled": True, "parents": [{"name": "public"}], "hostnames": ["a.example.com"]}
QUEUED = {"autoscaling": {"maxReplicas": 3, "signal": "queue"}}

REDIS = {"store": "redis", "url": "redis://redis:6379/0"}
FEAST = {"store": "feast", "url": "http://feast:6566", "service": "articles"}
SHARED_JOBS: dict[str, Any] = {"enabled": True, "ledger": {"secret": "ledger"}, "objects": "s3://bucket/jobs"}
NIGHTLY = {"name": "nightly", "schedule": "0 3 * * *", "document": {"model": "digits_gb", "read": {"uri": "s3://a"}}}
STORE: dict[str, Any] = {"models": {"store": "s3", "uri": "s3://bucket/models"}}

# Values beside which a value has an effect that it does not have alone, by the beginning of its name.
BESIDE: dict[str, dict[str, Any]] = {
    "preprocess.autoscaling.signal": {"preprocess": SCALED, "metrics": {"prometheus": "http://p:9090"}},
    "predictor.autoscaling.signal": {"predictor": SCALED, "metrics": {"prometheus": "http://p:9090"}},
    "postprocess.autoscaling.signal": {"postprocess": SCALED, "metrics": {"prometheus": "http://p:9090"}},
    "preprocess.autoscaling.cpuPercent": {"preprocess": SCALED},
    "predictor.autoscaling.cpuPercent": {"predictor": SCALED},
    "postprocess.autoscaling.cpuPercent": {"postprocess": SCALED},
    "preprocess.autoscaling.scaleDown": {"preprocess": SCALED},
    "predictor.autoscaling.scaleDown": {"predictor": SCALED},
    "postprocess.autoscaling.scaleDown": {"postprocess": SCALED},
    "preprocess.autoscaling.inFlight": {"preprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "postprocess.autoscaling.inFlight": {"postprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "predictor.autoscaling.queue": {"predictor": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "preprocess.autoscaling.concurrency": {"mode": "Knative"},
    "postprocess.autoscaling.concurrency": {"mode": "Knative"},
    "predictor.gpus": {"predictor": {"image": NVIDIA["image"]}},
    "predictor.gpuResource": {"predictor": NVIDIA},
    "models.claim": {"models": {"store": "pvc", "claim": "models"}},
    "models.path": {"models": {"store": "pvc", "claim": "models"}},
    "models.uri": STORE,
    "models.endpoint": STORE,
    "models.region": STORE,
    "models.secret": STORE,
    "models.maxObjects": STORE,
    "models.ca.": STORE,
    "models.ca.key": {"models": STORE["models"] | {"ca": {"secret": "authorities"}}},
    "models.proxy": STORE,
    "models.pollSeconds": STORE,
    "models.mirror.resources": STORE,
    "backend.": {"backend": {"enabled": True}},
    "backend.enabled": {},
    "backend.autoscaling.": {"backend": {"enabled": True} | SCALED},
    "backend.features.": {"backend": {"enabled": True, "features": REDIS}},
    "backend.features.articles": {"backend": {"enabled": True}},
    "backend.features.secret": {"backend": {"enabled": True, "features": {"store": "redis", "secret": "redis"}}},
    "backend.features.service": {"backend": {"enabled": True, "features": FEAST}},
    "jobs.": {"jobs": {"enabled": True}},
    "jobs.enabled": {},
    "jobs.replicas": {"jobs": SHARED_JOBS},
    "jobs.ledger.key": {"jobs": SHARED_JOBS},
    "jobs.workers.": {"jobs": SHARED_JOBS | {"workers": {"replicas": 1}}},
    "jobs.workers.replicas": {"jobs": SHARED_JOBS},
    "jobs.workers.autoscaling.": {"jobs": SHARED_JOBS | {"workers": SCALED}},
    "batches": {"jobs": {"enabled": True}},
    "batch.": {"jobs": {"enabled": True}, "batches": [NIGHTLY]},
    "networkPolicy.jobs": {"jobs": {"enabled": True}},
    "gateway.enabled": {"gateway": {"parents": [{"name": "public"}], "hostnames": ["a.example.com"]}},
    "gateway.": {"gateway": ROUTED},
    "canary.": {"gateway": ROUTED, "canary": {"enabled": True, "preprocess": {"replicas": 1}}},
    "canary.enabled": {"gateway": ROUTED, "canary": {"preprocess": {"replicas": 1}}},
    "canary.models": {
        "gateway": ROUTED,
        "canary": {"enabled": True, "preprocess": {"replicas": 1}, "postprocess": {"replicas": 1}},
    },
    "readinessHook.": {"readinessHook": {"enabled": True}},
    "readinessHook.enabled": {},
    "tls.secret": {"tls": {"mode": "tls", "secret": "certificates"}},
    "tls.issuer": {"tls": {"mode": "tls", "issuer": {"name": "ca"}}},
    "tls.dnsNames": {"tls": {"mode": "tls", "issuer": {"name": "ca"}}},
    "metrics.serviceMonitor.enabled": {},
    "metrics.serviceMonitor.": {"metrics": {"serviceMonitor": {"enabled": True}}},
    "metrics.dashboard.enabled": {},
    "metrics.dashboard.": {"metrics": {"dashboard": {"enabled": True}}},
    "metrics.window": {"preprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "metrics.prometheus": {"preprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
}

# Other values, where the rule of `changed` does not fit.
CHANGED: dict[str, Any] = {
    "mode": "Deployment",
    "fullnameOverride": "other",
    "models.uri": "s3://bucket/other",
    "models.endpoint": "http://minio:9000",
    "models.proxy": "http://proxy:3128",
    "backend.features.url": "redis://other:6379/0",
    "backend.features.articles": {"FR": {"boot": {"history": []}}},
    "predictor.args": ["--log-verbose=1"],
    "predictor.sharedMemory": "1Gi",
    "imagePullSecrets": [{"name": "registry"}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["store.example.com"]}],
    "metrics.serviceMonitor.interval": "30s",
    "metrics.window": "2m",
    "gateway.parents": [{"name": "other"}],
    "gateway.hostnames": ["api.example.com"],
    "tls.dnsNames": ["api.example.com"],
    "network.ipFamilies": ["IPv6"],
    "networkPolicy.callers": [{"podSelector": {}}],
    "networkPolicy.scrapers": [{"podSelector": {}}],
    "networkPolicy.jobsCallers": [{"podSelector": {}}],
    "networkPolicy.jobsEgress": [{"ports": [{"port": 5432}]}],
    "jobs.objects": "s3://bucket/jobs",
    "jobs.sources": ["s3://bucket/sales"],
    "jobs.s3.endpoint": "http://minio:9000",
    "batches": [NIGHTLY],
}
CHANGED |= {f"canary.{stage}": {"replicas": 7} for stage in ("preprocess", "predictor", "postprocess")}
CHANGED["tls.issuer"] = {"name": "other"}
CHANGED["canary.models"] = {"image": "triptych/models:2"}
CHANGED["servedModels"] = CHANGED["canary.servedModels"] = [
    {"model": "digits_gb", "traffic": [{"version": 2, "percent": 100}]}
]
PLACES = ("preprocess", "predictor", "postprocess", "controller", "jobs", "jobs.workers", "batch", "backend")
for _place in ("", *(f"{stage}." for stage in PLACES)):
    CHANGED[f"{_place}affinity"] = {"nodeAffinity": {}}
    CHANGED[f"{_place}tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    CHANGED[f"{_place}extraEnv"] = [{"name": "HTTPS_PROXY", "value": "http://proxy"}]
    CHANGED[f"{_place}extraVolumes"] = [{"name": "ca", "configMap": {"name": "ca"}}]
    CHANGED[f"{_place}extraVolumeMounts"] = [{"name": "ca", "mountPath": "/etc/ca"}]
    BESIDE[f"{_place}extraVolumeMounts"] = {"extraVolumes": CHANGED[f"{_place}extraVolumes"]}
BESIDE["backend.extraVolumeMounts"] |= {"backend": {"enabled": True}}
for _place in ("jobs.", "jobs.workers.", "batch."):
    BESIDE[f"{_place}extraVolumeMounts"] |= BESIDE[_place]
for _stage in ("preprocess", "predictor", "postprocess"):
    CHANGED[f"{_stage}.mode"] = "Deployment"
    CHANGED[f"{_stage}.autoscaling.signal"] = "queue"
for _stage in ("preprocess", "predictor", "postprocess", "controller", "jobs", "jobs.workers"):
    CHANGED[f"{_stage}.resources"] = {"requests": {"cpu": "333m"}}
    CHANGED[f"{_stage}.settings"] = {"log_level": "DEBUG"}
    CHANGED[f"{_stage}.shutdown.terminationGracePeriodSeconds"] = 77


def changed(name: str) -> Any:
    """Another value than the default."""
    if name in CHANGED:
        return CHANGED[name]
    leaf = LEAVES[name]
    if "enum" in leaf.schema:
        return next(choice for choice in leaf.schema["enum"] if choice not in ("", leaf.default))
    if isinstance(leaf.default, bool):
        return not leaf.default
    if isinstance(leaf.default, int | float):
        return leaf.default + 1
    return {"key": "value"} if isinstance(leaf.default, dict) else "changed"


def beside(name: str) -> dict[str, Any]:
    """The values beside which a value has an effect."""
    found = [prefix for prefix in BESIDE if name.startswith(prefix)]
    return copy.deepcopy(BESIDE[max(found, key=len)]) if found else {}


def with_value(values: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The values with one of them set."""
    made = copy.deepcopy(values)
    *groups, last = name.split(".")
    place = made
    for group in groups:
        place = place.setdefault(group, {})
    place[last] = value
    return made
