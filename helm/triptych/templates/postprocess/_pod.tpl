{{/* Arguments: root, lane. */}}
{{- define "triptych.postprocess-pod" -}}
{{- $arguments := dict "root" .root "lane" .lane "stage" "postprocess" "component" "postprocess" -}}
{{- $container := include "triptych.container-name" $arguments -}}
{{ include "triptych.pod-fields" $arguments }}
containers:
  - {{ include "triptych.python-container" (merge (dict "container" $container) $arguments) | indent 4 | trim }}
{{- include "triptych.pod-volumes" $arguments }}
{{- end }}

{{/* The settings that the chart makes, as JSON. Arguments: root, lane. */}}
{{- define "triptych.postprocess-settings" -}}
{{- toJson (dict "controller" (include "triptych.address" (dict "root" .root "lane" .lane "stage" "controller"))) }}
{{- end }}

{{- define "triptych.postprocess-env" }}{{ include "triptych.python-env" . }}{{ end }}
{{- define "triptych.postprocess-mounts" }}{{ include "triptych.tls-mount" . }}{{ end }}
{{- define "triptych.postprocess-volumes" }}{{ include "triptych.tls-volume" . }}{{ end }}
