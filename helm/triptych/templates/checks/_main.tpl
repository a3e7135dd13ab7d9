{{/*
Checks: contradictions between values, which the schema cannot express, and APIs that the cluster lacks. Each ends with a
sentence that names the value, what it contradicts and what to do.
*/}}
{{- define "triptych.check" -}}
{{- $lanes := include "triptych.lanes" . | fromJsonArray -}}
{{- $stable := dict "root" . "lane" (first $lanes) -}}
{{- include "triptych.check-modes" $stable }}
{{- include "triptych.check-grouped" $stable }}
{{- include "triptych.check-in-process" $stable }}
{{- include "triptych.check-gateway" $stable }}
{{- include "triptych.check-network-policy" $stable }}
{{- include "triptych.check-tls" $stable }}
{{- include "triptych.check-canary" $stable }}
{{- include "triptych.check-backend" $stable }}
{{- include "triptych.check-jobs" $stable }}
{{- include "triptych.check-batches" $stable }}
{{- include "triptych.check-cluster" $stable }}
{{- include "triptych.check-rights" $stable }}
{{- include "triptych.check-volumes" (merge (dict "component" "test") $stable) }}
{{- range $lane := $lanes }}
{{- $arguments := dict "root" $ "lane" $lane }}
{{- include "triptych.check-host-names" $arguments }}
{{- include "triptych.check-models" $arguments }}
{{- include "triptych.check-served-models" $arguments }}
{{- include "triptych.check-model-control" $arguments }}
{{- include "triptych.check-gpus" $arguments }}
{{- range $stage := $lane.stages }}
{{- $arguments := dict "root" $ "lane" $lane "stage" $stage }}
{{- include "triptych.check-autoscaling" $arguments }}
{{- include "triptych.check-shutdown" $arguments }}
{{- include "triptych.check-settings" $arguments }}
{{- include "triptych.check-env" $arguments }}
{{- end }}
{{- range $component := $lane.components }}
{{- include "triptych.check-labels" (merge (dict "component" $component) $arguments) }}
{{- include "triptych.check-volumes" (merge (dict "component" $component) $arguments) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The path of a stage in values.yaml, for sentences. Arguments: lane, stage. */}}
{{- define "triptych.path" -}}
{{ ternary "canary." "" (and .lane.canary (ne .stage "controller")) }}{{ ternary "jobs.workers" .stage (eq .stage "jobs-worker") }}
{{- end }}
