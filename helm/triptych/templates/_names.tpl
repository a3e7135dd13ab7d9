{{/* Names, labels and addresses. A stage is preprocess, predictor, postprocess, controller, or grouped. */}}

{{/* The name of an object: (list $ "predictor"). */}}
{{- define "triptych.name" -}}
{{ (index . 0).Values.namePrefix }}{{ index . 1 }}{{ include "triptych.suffix" . }}
{{- end }}

{{/* What never changes over upgrades: (list $ "predictor"). */}}
{{- define "triptych.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}{{ include "triptych.suffix" . }}
{{- end }}

{{/* Labels of an object: (list $ "predictor"). */}}
{{- define "triptych.labels" -}}
{{ include "triptych.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end }}

{{/* Name, namespace and labels of an object: (list $ "predictor" "predictor-metrics"); the name may be left out. */}}
{{- define "triptych.metadata" -}}
name: {{ include "triptych.name" (list (index . 0) (index . (sub (len .) 1))) }}
namespace: {{ (index . 0).Release.Namespace }}
labels:
  {{- include "triptych.labels" . | nindent 2 }}
{{- end }}

{{/* Not empty when postprocess has no process: preprocess does its work. */}}
{{- define "triptych.in-process" -}}
{{- if or (eq .Values.mode "Grouped") (eq .Values.postprocess.mode "InProcess") }}true{{ end }}
{{- end }}

{{/* The mode of a stage: Standard, Knative, Grouped, Deployment or InProcess. */}}
{{- define "triptych.mode" -}}
{{- $values := (index . 0).Values -}}
{{- $stage := index . 1 -}}
{{- if has $stage (list "controller" "backend") }}Deployment
{{- else if eq $values.mode "Grouped" }}Grouped
{{- else if (index $values $stage).mode }}{{ (index $values $stage).mode }}
{{- else if and (eq $stage "predictor") (eq $values.mode "Knative") }}Standard
{{- else }}{{ $values.mode }}
{{- end }}
{{- end }}

{{/* The component that a stage's pods are labelled with: its own, or that of the pod of all three. */}}
{{- define "triptych.component" -}}
{{ ternary "grouped" (index . 1) (eq (include "triptych.mode" .) "Grouped") }}
{{- end }}

{{/* The Deployment that runs a stage (KServe appends a word of its own). */}}
{{- define "triptych.deployment" -}}
{{- $name := include "triptych.name" (list (index . 0) (include "triptych.component" .)) -}}
{{ ternary $name (printf "%s-predictor" $name) (eq (include "triptych.mode" .) "Deployment") }}
{{- end }}

{{/* The gRPC port of a stage. */}}
{{- define "triptych.port" -}}
{{ get (dict "preprocess" "9000" "postprocess" "9001" "controller" "9002" "predictor" "8001" "backend" "8080") . }}
{{- end }}

{{/* The port of a stage's metrics. */}}
{{- define "triptych.metrics-port" -}}
{{ get (dict "preprocess" "9100" "postprocess" "9101" "controller" "9102" "predictor" "8002") . }}
{{- end }}

{{/* Where a stage is called, from inside the namespace. */}}
{{- define "triptych.address" -}}
{{- if eq (include "triptych.mode" .) "Knative" -}}
{{ include "triptych.name" . }}-predictor.{{ (index . 0).Release.Namespace }}:80
{{- else -}}
{{ include "triptych.name" . }}:{{ include "triptych.port" (index . 1) }}
{{- end }}
{{- end }}

{{/* The full name of an image: registry and tag are added to one without a tag. (list $ "triptych/preprocess") */}}
{{- define "triptych.image" -}}
{{- $values := (index . 0).Values -}}
{{- $image := index . 1 -}}
{{- if regexMatch "[:@][^/]+$" $image }}{{ $image }}
{{- else -}}
{{ with $values.registry }}{{ trimSuffix "/" . }}/{{ end }}{{ $image }}:{{ $values.tag | default (index . 0).Chart.AppVersion }}
{{- end }}
{{- end }}

{{/* The tag of an image, or the digest: the revision that answers name. */}}
{{- define "triptych.revision" -}}
{{ regexFind "[^:@/]+$" (include "triptych.image" .) | trunc 40 }}
{{- end }}
