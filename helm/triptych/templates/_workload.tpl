{{/* The object that runs a component, from its pod spec: (list $ component pod-spec). */}}

{{/* A Deployment. Without `replicas` when an autoscaler sets them. */}}
{{- define "triptych.workload-deployment" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $stage := ternary "preprocess" $component (eq $component "grouped") -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "triptych.metadata" (list $root $component) | nindent 2 }}
spec:
  {{- if not (include "triptych.autoscaled" (list $root $stage)) }}
  replicas: {{ (index $root.Values $stage).replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "triptych.selector" (list $root $component) | nindent 6 }}
  strategy:
    {{- include "triptych.strategy" (list $root $component) | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "triptych.pod-labels" (list $root $component) | nindent 8 }}
      annotations:
        {{- include "triptych.pod-annotations" (list $root $component (include "triptych.metrics-port" $stage) $component) | nindent 8 }}
    spec:
      {{- index . 2 | nindent 6 }}
{{- end }}

{{/* No pod goes before another is ready, unless the cluster has no place for one more. */}}
{{- define "triptych.strategy" -}}
{{- $surge := ternary (index . 0).Values.predictor.maxSurge 1 (has (index . 1) (list "predictor" "grouped")) -}}
type: RollingUpdate
rollingUpdate: {maxSurge: {{ $surge }}, maxUnavailable: {{ ternary 0 1 (gt (int $surge) 0) }}}
{{- end }}

{{/* An InferenceService with one predictor, in KServe's sense of the word. KServe's own way in speaks no TLS to a pod. */}}
{{- define "triptych.workload-inferenceservice" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $stage := ternary "preprocess" $component (eq $component "grouped") -}}
{{- $values := index $root.Values $stage -}}
{{- $knative := eq (include "triptych.mode" (list $root $stage)) "Knative" -}}
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  {{- include "triptych.metadata" (list $root $component) | nindent 2 }}
    {{- if or (ne $stage "preprocess") (include "triptych.suffix" (list $root $component)) (include "triptych.tls-secret" $root) }}
    # Not for callers from outside of the cluster.
    networking.kserve.io/visibility: cluster-local
    networking.knative.dev/visibility: cluster-local
    {{- end }}
  annotations:
    serving.kserve.io/deploymentMode: {{ ternary "Knative" "Standard" $knative }}
    {{- if not $knative }}
    # Replicas are set here, or by the chart's own HorizontalPodAutoscaler or ScaledObject.
    serving.kserve.io/autoscalerClass: {{ ternary "external" "none" (not (not (include "triptych.autoscaled" (list $root $stage)))) }}
    {{- end }}
spec:
  predictor:
    minReplicas: {{ $values.replicas }}
    maxReplicas: {{ max $values.replicas $values.autoscaling.maxReplicas }}
    {{- if $knative }}
    scaleMetric: concurrency
    scaleTarget: {{ $values.autoscaling.concurrency }}
    {{- if and $root.Values.canary.enabled (eq $stage "preprocess") }}
    canaryTrafficPercent: {{ $root.Values.canary.percent }}
    {{- end }}
    {{- else }}
    deploymentStrategy:
      {{- include "triptych.strategy" (list $root $component) | nindent 6 }}
    {{- end }}
    labels:
      {{- include "triptych.pod-labels" (list $root $component) | nindent 6 }}
    annotations:
      {{- include "triptych.pod-annotations" (list $root $component (include "triptych.metrics-port" $stage) "kserve-container") | nindent 6 }}
    {{- index . 2 | nindent 4 }}
{{- end }}

{{- define "triptych.workload" -}}
{{- $stage := ternary "preprocess" (index . 1) (eq (index . 1) "grouped") -}}
{{- $deployment := eq (include "triptych.mode" (list (index . 0) $stage)) "Deployment" -}}
{{- include (ternary "triptych.workload-deployment" "triptych.workload-inferenceservice" $deployment) . }}
{{- end }}

{{/* The name of a stage's first container; KServe wants its own word. */}}
{{- define "triptych.container-name" -}}
{{ ternary (index . 1) "kserve-container" (eq (include "triptych.mode" .) "Deployment") }}
{{- end }}

{{/* Not empty when an autoscaler of the chart sets a stage's replicas: cpu or queue. */}}
{{- define "triptych.autoscaled" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- if and $values.autoscaling (ne (include "triptych.mode" .) "Knative") }}
{{- if gt (int $values.autoscaling.maxReplicas) (int $values.replicas) }}
{{- $values.autoscaling.signal | default "cpu" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Milliseconds of waiting in each second: of groups in preprocess, and of requests in Triton. The lane's own pods. */}}
{{- define "triptych.predictor-queue" -}}
{{- $window := .Values.metrics.window -}}
{{- $pods := ternary "[a-z0-9]+-[a-z0-9]+" ".*" .Values.canary.enabled -}}
{{- $where := printf `namespace="%s", pod=~"%s-%s"` .Release.Namespace (include "triptych.deployment" (list . "predictor")) $pods -}}
{{- $before := printf `namespace="%s", stage="preprocess", part="queue", pod=~"%s-%s"` .Release.Namespace (include "triptych.deployment" (list . "preprocess")) $pods -}}
sum(rate(nv_inference_queue_duration_us{ {{- $where }}}[{{ $window }}])) / 1000 + (sum(rate(triptych_part_seconds_sum{ {{- $before }}}[{{ $window }}])) * 1000 or vector(0))
{{- end }}
