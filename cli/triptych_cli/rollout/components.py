"""The components of a rollout, built from the options of its command line."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from triptych_cli import tls_options
from triptych_cli.controller_client import ControllerClient
from triptych_cli.rollout.metrics.sources import (
    EndpointSource,
    MetricSource,
    PrometheusSource,
    fetch,
    release_matchers,
)
from triptych_cli.rollout.reporters.lines import JsonReporter, LineReporter
from triptych_cli.rollout.spec import Reporter
from triptych_cli.rollout.targets.document import DocumentTarget
from triptych_cli.rollout.targets.target import RolloutTarget, TargetError
from triptych_cli.rollout.traffic_split import UsageError

FIELD_MANAGER = "triptych-rollout"  # by this name Kubernetes says whose traffic it is
METRICS = ("http://127.0.0.1:9100/metrics", "http://127.0.0.1:9101/metrics")


@dataclass(frozen=True)
class Components:
    """The target, the source of metrics, and the names that are shown."""

    target: RolloutTarget
    metrics: MetricSource
    name: str
    to: str


def build_components(options: argparse.Namespace) -> Components:
    """Connect to the target and its metrics. Raises `UsageError` for wrong options, and `TargetError`."""
    _check(options)
    if options.inferenceservice:
        return _inference_service(options)
    return _object(options) if options.namespace else _document(options)


def build_reporter(options: argparse.Namespace) -> Reporter:
    """A live panel in a terminal, else lines."""
    if options.json:
        return JsonReporter(sys.stdout)
    if options.no_live or not sys.stdout.isatty():
        return LineReporter(sys.stdout)
    from rich.console import Console  # importing it takes 100 ms

    from triptych_cli.rollout.reporters.live import LiveReporter

    return LiveReporter(Console())


def _check(options: argparse.Namespace) -> None:
    if options.inferenceservice:
        if options.model or options.to:
            raise UsageError("--inferenceservice rolls out the newest revision: it takes no model and no --to")
        if not options.namespace:
            raise UsageError("--inferenceservice needs --namespace")
        if options.prometheus or options.metrics:
            raise UsageError("--inferenceservice reads the pods of the two revisions: no --metrics, no --prometheus")
        return
    if not options.model or not options.to:
        raise UsageError("want a model and --to VERSION, or --inferenceservice NAME")
    if bool(options.documents) == bool(options.namespace):
        raise UsageError("want one of --documents DIR and --namespace NS: the place where the traffic is written")


def _document(options: argparse.Namespace) -> Components:
    client = ControllerClient(options.controller, tls_options.credentials(options))
    try:
        target = DocumentTarget(options.documents, options.model, client)
    except TargetError:
        client.close()
        raise
    return Components(
        target, _named_source(options) or _endpoint_source(options.model, METRICS), options.model, str(options.to)
    )


def _object(options: argparse.Namespace) -> Components:
    # Importing the Kubernetes client takes a second, which a folder of documents does not need.
    from controller.kubernetes.blocking import BlockingApi
    from triptych_cli.rollout.metrics.pods import model_metrics
    from triptych_cli.rollout.targets.served_model_object import ServedModelObject

    api = BlockingApi.connect(options.kubeconfig, FIELD_MANAGER)
    try:
        target = ServedModelObject(api, options.namespace, options.model)
    except TargetError:
        api.close()
        raise
    options.model = target.model  # the option may hold the object's name
    where = options.namespace, target.release
    metrics = _named_source(options, release_matchers(*where)) or model_metrics(api, *where, target.model)
    return Components(target, metrics, target.model, str(options.to))


def _inference_service(options: argparse.Namespace) -> Components:
    from controller.kubernetes.blocking import BlockingApi
    from triptych_cli.rollout.metrics.pods import RevisionMetrics
    from triptych_cli.rollout.targets.inference_service import InferenceServiceTarget

    api = BlockingApi.connect(options.kubeconfig, FIELD_MANAGER)
    try:
        target = InferenceServiceTarget(api, options.namespace, options.inferenceservice, options.component)
    except TargetError:
        api.close()
        raise
    metrics = RevisionMetrics(api, options.namespace, (target.old, target.new))
    return Components(target, metrics, f"{options.inferenceservice}, {options.component}", target.new)


def _named_source(options: argparse.Namespace, matchers: str = "") -> MetricSource | None:
    """The source of metrics that the command line names, if any; of a Prometheus, the series with these matchers."""
    if options.prometheus:
        return PrometheusSource(options.model, options.prometheus, fetch, matchers)
    return _endpoint_source(options.model, tuple(options.metrics)) if options.metrics else None


def _endpoint_source(model: str, addresses: tuple[str, ...]) -> MetricSource:
    return EndpointSource(model, lambda: addresses, fetch)
