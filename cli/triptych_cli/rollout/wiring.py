"""What a rollout is made of, by the options of its command line."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from triptych_cli import tls_options
from triptych_cli.remote import Remote
from triptych_cli.rollout.document import DocumentTarget
from triptych_cli.rollout.lines import JsonLines, Lines
from triptych_cli.rollout.metric_sources import Endpoints, Prometheus, Signals, fetch
from triptych_cli.rollout.plan import PlanError
from triptych_cli.rollout.spec import Show
from triptych_cli.rollout.target import Target, TargetError

METRICS = ("http://127.0.0.1:9100/metrics", "http://127.0.0.1:9101/metrics")


@dataclass(frozen=True)
class Parts:
    """The target, what is measured, and the names that are shown."""

    target: Target
    signals: Signals
    what: str
    to: str


def parts(options: argparse.Namespace) -> Parts:
    """Raises `PlanError` for options that do not fit together, and `TargetError` for what is not there."""
    _check(options)
    if options.inferenceservice:
        return _inference_service(options)
    return _object(options) if options.namespace else _document(options)


def show(options: argparse.Namespace) -> Show:
    """A live picture in a terminal, else lines."""
    if options.json:
        return JsonLines(sys.stdout)
    if options.no_live or not sys.stdout.isatty():
        return Lines(sys.stdout)
    from rich.console import Console  # costs 100 ms that lines do not need

    from triptych_cli.rollout.picture import Picture

    return Picture(Console())


def _check(options: argparse.Namespace) -> None:
    if options.inferenceservice:
        if options.model or options.to:
            raise PlanError("--inferenceservice rolls out the newest revision: it takes no model and no --to")
        if not options.namespace:
            raise PlanError("--inferenceservice needs --namespace")
        if options.prometheus or options.metrics:
            raise PlanError("--inferenceservice reads the pods of the two revisions: no --metrics, no --prometheus")
        return
    if not options.model or not options.to:
        raise PlanError("want a model and --to VERSION, or --inferenceservice NAME")
    if bool(options.documents) == bool(options.namespace):
        raise PlanError("where is the traffic? Say one of --documents DIR and --namespace NS")


def _document(options: argparse.Namespace) -> Parts:
    remote = Remote(options.controller, tls_options.given(options))
    try:
        target = DocumentTarget(options.documents, options.model, remote)
    except TargetError:
        remote.close()
        raise
    return Parts(target, _given(options) or _endpoints(options.model, METRICS), options.model, str(options.to))


def _object(options: argparse.Namespace) -> Parts:
    # The client of Kubernetes costs a second that a folder does not need.
    from controller.kubernetes.blocking import BlockingApi
    from triptych_cli.rollout.pods import model_signals
    from triptych_cli.rollout.served_model_object import ServedModelObject

    api = BlockingApi.connect(options.kubeconfig)
    try:
        target = ServedModelObject(api, options.namespace, options.model)
    except TargetError:
        api.close()
        raise
    options.model = target.model  # the object's own name may have been given
    signals = _given(options) or model_signals(api, options.namespace, target.model)
    return Parts(target, signals, target.model, str(options.to))


def _inference_service(options: argparse.Namespace) -> Parts:
    from controller.kubernetes.blocking import BlockingApi
    from triptych_cli.rollout.inference_service import InferenceServiceTarget
    from triptych_cli.rollout.pods import RevisionSignals

    api = BlockingApi.connect(options.kubeconfig)
    try:
        target = InferenceServiceTarget(api, options.namespace, options.inferenceservice, options.component)
    except TargetError:
        api.close()
        raise
    signals = RevisionSignals(api, options.namespace, (target.old, target.new))
    return Parts(target, signals, f"{options.inferenceservice}, {options.component}", target.new)


def _given(options: argparse.Namespace) -> Signals | None:
    """What the command line says is to be measured, if it does."""
    if options.prometheus:
        return Prometheus(options.model, options.prometheus, fetch)
    return _endpoints(options.model, tuple(options.metrics)) if options.metrics else None


def _endpoints(model: str, addresses: tuple[str, ...]) -> Signals:
    return Endpoints(model, lambda: addresses, fetch)
