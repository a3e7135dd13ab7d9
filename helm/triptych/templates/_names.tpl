{{/* Names, labels, addresses and images. */}}

{{/* The name of an object. Arguments: lane; name, which begins with that of the stage whose object it is. */}}
{{- define "triptych.name" -}}
{{ with .lane.values.fullnameOverride }}{{ . }}-{{ end }}{{ .name }}{{ include "triptych.suffix" . }}
{{- end }}

{{/* `-canary` for what the canary does not share with the stable lane. Arguments: lane, name. */}}
{{- define "triptych.suffix" -}}
{{- if and .lane.canary (has (splitList "-" .name | first) .lane.stages) }}-canary{{ end }}
{{- end }}

{{/* The label of the chart. Arguments: root, lane. */}}
{{- define "triptych.chart-name" -}}
{{ .lane.values.nameOverride | default .root.Chart.Name }}
{{- end }}

{{/* The labels that select pods. An upgrade must not change them. Arguments: root, lane, component. */}}
{{- define "triptych.selector" -}}
app.kubernetes.io/name: {{ include "triptych.chart-name" . | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}{{ include "triptych.suffix" (dict "lane" .lane "name" .component) }}
{{- end }}

{{/* The labels of an object. Arguments: root, lane, component; podLabels of a pod. */}}
{{- define "triptych.labels" -}}
{{- $own := include "triptych.own-labels" . -}}
{{ $own }}
{{- range $name, $value := .podLabels | default .lane.values.commonLabels }}
{{- if not (hasKey ($own | fromYaml) $name) }}
{{ $name | quote }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triptych.own-labels" -}}
{{ include "triptych.selector" . }}
app.kubernetes.io/version: {{ include "triptych.label-value" .root.Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "triptych.label-value" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) }}
{{- end }}

{{/* A text as the value of a label. Flux and `helm package --version` add build metadata behind a `+`. */}}
{{- define "triptych.label-value" -}}
{{ regexReplaceAll "[^A-Za-z0-9_.-]" . "_" | trunc 63 | trimAll "-_." | quote }}
{{- end }}

{{/* Name, namespace and labels of an object. Arguments: root, lane, component; name if it is not the component's. */}}
{{- define "triptych.metadata" -}}
name: {{ include "triptych.name" (dict "lane" .lane "name" (.name | default .component)) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "triptych.labels" . | nindent 2 }}
{{- end }}

{{/* The component whose pods run a stage. Arguments: lane, stage. */}}
{{- define "triptych.component" -}}
{{ ternary "grouped" .stage (eq (index .lane.modes .stage) "Grouped") }}
{{- end }}

{{/* The Deployment that runs a stage: KServe appends `-predictor` to the name. Arguments: lane, stage. */}}
{{- define "triptych.deployment" -}}
{{- $name := include "triptych.name" (dict "lane" .lane "name" (include "triptych.component" .)) -}}
{{ ternary $name (printf "%s-predictor" $name) (eq (index .lane.modes .stage) "Deployment") }}
{{- end }}

{{/* The port that a stage is called at. Argument: stage. */}}
{{- define "triptych.port" -}}
{{ get (dict "preprocess" "9000" "postprocess" "9001" "controller" "9002" "jobs" "9003" "jobs-worker" "9003" "predictor" "8001" "backend" "8080") .stage }}
{{- end }}

{{/* The port of a stage's metrics; empty if it has none. Argument: stage. */}}
{{- define "triptych.metrics-port" -}}
{{ get (dict "preprocess" "9100" "postprocess" "9101" "controller" "9102" "jobs" "9103" "jobs-worker" "9103" "predictor" "8002") .stage }}
{{- end }}

{{/* The address of a stage inside the namespace. Arguments: root, lane, stage. */}}
{{- define "triptych.address" -}}
{{- $name := include "triptych.name" (dict "lane" .lane "name" .stage) -}}
{{- if eq (index .lane.modes .stage) "Knative" -}}
{{ $name }}-predictor.{{ .root.Release.Namespace }}:80
{{- else -}}
{{ $name }}:{{ include "triptych.port" . }}
{{- end }}
{{- end }}

{{/* The address of every pod of preprocess, or of the ingress of Knative, which balances. Arguments: root, lane. */}}
{{- define "triptych.balanced-preprocess" -}}
{{- if eq .lane.modes.preprocess "Knative" -}}
{{ include "triptych.address" (dict "root" .root "lane" .lane "stage" "preprocess") }}
{{- else -}}
dns:///{{ include "triptych.name" (dict "lane" .lane "name" "preprocess-pods") }}:9000
{{- end }}
{{- end }}

{{/* The prefix of a stage's variables. Argument: stage. */}}
{{- define "triptych.prefix" -}}
{{ ternary "JOBS" (upper .stage) (hasPrefix "jobs" .stage) }}
{{- end }}

{{/* The full name of an image: one without a tag gets registry and tag. Arguments: root, lane, image. */}}
{{- define "triptych.image" -}}
{{- if regexMatch "[:@][^/]+$" .image }}{{ .image }}
{{- else -}}
{{ with .lane.values.registry | default (.lane.values.global | default dict).imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}{{ .image }}:{{ .lane.values.tag | default (.root.Chart.AppVersion | replace "+" "_") }}
{{- end }}
{{- end }}

{{/* The revision that answers name: the tag of an image, or its digest. Arguments: root, lane, image. */}}
{{- define "triptych.revision" -}}
{{ regexFind "[^:@/]+$" (include "triptych.image" .) | trunc 40 }}
{{- end }}
