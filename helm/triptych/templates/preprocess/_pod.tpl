{{/* Arguments: root, lane. */}}
{{- define "triptych.preprocess-pod" -}}
{{- $arguments := dict "root" .root "lane" .lane "stage" "preprocess" "component" "preprocess" -}}
{{- $container := include "triptych.container-name" $arguments -}}
{{ include "triptych.pod-fields" $arguments }}
containers:
  - {{ include "triptych.python-container" (merge (dict "container" $container) $arguments) | indent 4 | trim }}
{{- include "triptych.pod-volumes" $arguments }}
{{- end }}

{{/* The settings that the chart makes, as JSON. Arguments: root, lane. */}}
{{- define "triptych.preprocess-settings" -}}
{{- $settings := dict
      "controller" (include "triptych.address" (dict "root" .root "lane" .lane "stage" "controller"))
      "postprocess" "in-process" -}}
{{- if not .lane.inProcess }}
{{- $_ := set $settings "postprocess" (include "triptych.address" (dict "root" .root "lane" .lane "stage" "postprocess")) -}}
{{- end }}
{{- if eq .lane.values.mode "Grouped" }}{{ $_ := set $settings "own_predictor" "$(POD_IP):8001" }}{{ end -}}
{{- if .lane.values.preprocess.rest }}{{ $_ := set $settings "rest_port" 8080 }}{{ end -}}
{{- toJson $settings }}
{{- end }}

{{- define "triptych.preprocess-env" }}{{ include "triptych.python-env" . }}{{ end }}
{{- define "triptych.preprocess-mounts" }}{{ include "triptych.tls-mount" . }}{{ end }}
{{- define "triptych.preprocess-volumes" }}{{ include "triptych.tls-volume" . }}{{ end }}
