{{/* The object that runs a component: a Deployment, or an InferenceService of KServe. */}}

{{/* Arguments: root, lane, component. The pod is that of template `triptych.COMPONENT-pod`. */}}
{{- define "triptych.workload" -}}
{{- $stage := ternary "preprocess" .component (eq .component "grouped") -}}
{{- $kind := ternary "deployment" "inferenceservice" (eq (index .lane.modes $stage) "Deployment") -}}
{{- include (printf "triptych.%s-object" $kind) (dict "root" .root "lane" .lane "component" .component "stage" $stage) }}
{{- end }}

{{/* A Deployment. Arguments: root, lane, component, stage. */}}
{{- define "triptych.deployment-object" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "triptych.metadata" . | nindent 2 }}
spec:
  {{- with include "triptych.replicas" . }}
  replicas: {{ . }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "triptych.selector" . | nindent 6 }}
  strategy:
    {{- include "triptych.strategy" . | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "triptych.pod-labels" . | nindent 8 }}
      annotations:
        {{- include "triptych.pod-annotations" (merge (dict "container" .component) .) | nindent 8 }}
    spec:
      {{- include (printf "triptych.%s-pod" .component) . | nindent 6 }}
{{- end }}

{{/* An InferenceService whose predictor is the component. KServe's ingress speaks no TLS to a pod, so with TLS nothing is
exposed outside of the cluster. Arguments: root, lane, component, stage. */}}
{{- define "triptych.inferenceservice-object" -}}
{{- $values := index .lane.values .stage -}}
{{- $knative := eq (index .lane.modes .stage) "Knative" -}}
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  {{- include "triptych.metadata" . | nindent 2 }}
    {{- if or (ne .stage "preprocess") (include "triptych.suffix" (dict "lane" .lane "name" .component)) (include "triptych.tls-secret" .) }}
    # No ingress from outside of the cluster.
    networking.kserve.io/visibility: cluster-local
    networking.knative.dev/visibility: cluster-local
    {{- end }}
  annotations:
    serving.kserve.io/deploymentMode: {{ ternary "Knative" "Standard" $knative }}
    {{- if not $knative }}
    # KServe makes no autoscaler: replicas are fixed, or set by the chart's HorizontalPodAutoscaler or ScaledObject.
    serving.kserve.io/autoscalerClass: {{ ternary "external" "none" (not (not (include "triptych.autoscaling-signal" .))) }}
    {{- end }}
spec:
  predictor:
    minReplicas: {{ int $values.replicas }}
    maxReplicas: {{ max (int $values.replicas) (int $values.autoscaling.maxReplicas) }}
    {{- $timeout := include "triptych.route-timeout" . }}
    {{- if and $timeout (eq .stage "preprocess") (not $knative) }}
    # Of KServe's HTTPRoute.
    timeout: {{ $timeout }}
    {{- end }}
    {{- if $knative }}
    scaleMetric: concurrency
    scaleTarget: {{ int $values.autoscaling.concurrency }}
    {{- if and .lane.values.canary.enabled (eq .stage "preprocess") }}
    canaryTrafficPercent: {{ int .lane.values.canary.percent }}
    {{- end }}
    {{- else }}
    deploymentStrategy:
      {{- include "triptych.strategy" . | nindent 6 }}
    {{- end }}
    labels:
      {{- include "triptych.pod-labels" . | nindent 6 }}
    annotations:
      {{- include "triptych.pod-annotations" (merge (dict "container" "kserve-container") .) | nindent 6 }}
    {{- include (printf "triptych.%s-pod" .component) . | nindent 4 }}
{{- end }}

{{/* An update starts a new pod before it ends an old one, unless the cluster has no place for one more.
Arguments: lane, component. */}}
{{- define "triptych.strategy" -}}
{{- $surge := ternary .lane.values.predictor.maxSurge 1 (has .component (list "predictor" "grouped")) -}}
{{- if and (eq .component "jobs") (include "triptych.jobs-files" .) -}}
# Two pods may not have one ledger in a file, and on two nodes they could not.
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate: {maxSurge: {{ int $surge }}, maxUnavailable: {{ ternary 0 1 (gt (int $surge) 0) }}}
{{- end }}
{{- end }}

{{/* The replicas of a Deployment. If an autoscaler sets them, they are those of the Deployment in the cluster: a field that
Helm sent before and now leaves out becomes 1. Empty without a Deployment, as in a render without a cluster.
Arguments: root, lane, component, stage. */}}
{{- define "triptych.replicas" -}}
{{- if include "triptych.autoscaling-signal" . -}}
{{- $name := include "triptych.name" (dict "lane" .lane "name" .component) -}}
{{- with (lookup "apps/v1" "Deployment" .root.Release.Namespace $name).spec }}{{ int .replicas }}{{ end }}
{{- else -}}
{{ int (index .lane.values .stage).replicas }}
{{- end }}
{{- end }}

{{/* The signal by which an autoscaler of the chart sets a stage's replicas: cpu, queue or parts; empty if there is none.
Arguments: lane, stage. */}}
{{- define "triptych.autoscaling-signal" -}}
{{- $values := index .lane.values .stage -}}
{{- if and $values.autoscaling (ne (index .lane.modes .stage) "Knative") }}
{{- if gt (int $values.autoscaling.maxReplicas) (int $values.replicas) }}
{{- $values.autoscaling.signal | default "cpu" }}
{{- end }}
{{- end }}
{{- end }}

{{/* PromQL: matchers of the pods of a stage's Deployment, not of another lane or release. Pods of a long name have no
dash before their last part. Arguments: root, lane, stage. */}}
{{- define "triptych.pod-matchers" -}}
namespace="{{ .root.Release.Namespace }}", pod=~"{{ include "triptych.deployment" . }}-[a-z0-9]+(-[a-z0-9]+)?"
{{- end }}

{{/* PromQL: milliseconds of waiting per second, of batches in preprocess and of requests in Triton, in the pods of the
lane. Arguments: root, lane. */}}
{{- define "triptych.predictor-queue" -}}
{{- $window := .lane.values.metrics.window -}}
{{- $triton := include "triptych.pod-matchers" (merge (dict "stage" "predictor") .) -}}
{{- $batches := printf `%s, stage="preprocess", part="queue"` (include "triptych.pod-matchers" (merge (dict "stage" "preprocess") .)) -}}
sum(rate(nv_inference_queue_duration_us{ {{- $triton }}}[{{ $window }}])) / 1000 + (sum(rate(triptych_part_seconds_sum{ {{- $batches }}}[{{ $window }}])) * 1000 or vector(0))
{{- end }}
