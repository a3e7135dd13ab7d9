{{/* Arguments: root, lane. */}}
{{- define "triptych.controller-pod" -}}
{{- $arguments := dict "root" .root "lane" .lane "stage" "controller" "component" "controller" -}}
{{ include "triptych.pod-fields" $arguments }}
{{- include "triptych.copy-init-container" $arguments }}
containers:
  - {{ include "triptych.controller-container" $arguments | indent 4 | trim }}
{{- include "triptych.pod-volumes" $arguments }}
{{- end }}

{{- define "triptych.controller-container" -}}
{{ include "triptych.python-container" (merge (dict "container" "controller") .) }}
{{- end }}

{{/* The settings that the chart makes, as JSON. The canary's controller reads documents from a folder, and writes no
status: the objects in Kubernetes are the stable lane's. Arguments: root, lane. */}}
{{- define "triptych.controller-settings" -}}
{{- $name := include "triptych.name" (dict "lane" .lane "name" "controller") -}}
{{- $settings := dict
      "triton" (include "triptych.address" (dict "root" .root "lane" .lane "stage" "predictor"))
      "undeclared" .lane.values.controller.undeclared
      "identity" "$(POD_NAME)_$(POD_IP):9002" -}}
{{- $objects := dict "kubernetes" true "lease" $name "namespace" .root.Release.Namespace -}}
{{- with .lane.values.fullnameOverride }}{{ $_ := set $objects "release" . }}{{ end -}}
{{- $documents := dict "served_models" "/served-models" -}}
{{- if .lane.values.controller.page -}}
{{- $_ := set $settings "page_port" 9202 -}}
{{- $_ := set $settings "page_preprocess" (include "triptych.address" (dict "root" .root "lane" .lane "stage" "preprocess")) -}}
{{- end -}}
{{- toJson (merge $settings (ternary $documents $objects .lane.canary) (include "triptych.models-settings" . | fromJson)) }}
{{- end }}

{{- define "triptych.controller-env" }}{{ include "triptych.python-env" . }}{{ end }}

{{/* Arguments: root, lane. */}}
{{- define "triptych.controller-mounts" -}}
{{- if include "triptych.models-are-mirrored" . -}}
- {name: models, mountPath: /models}
{{- include "triptych.store-mounts" . }}
{{- else -}}
{{ include "triptych.models-mount" . }}
{{- end }}
{{- if .lane.canary }}
- {name: served-models, mountPath: /served-models, readOnly: true}
{{- end }}
{{- with include "triptych.tls-mount" . }}
{{ . }}
{{- end }}
{{- end }}

{{/* Arguments: root, lane. */}}
{{- define "triptych.controller-volumes" -}}
{{ include "triptych.models-volume" . }}
{{- if .lane.canary }}
- {name: served-models, configMap: {name: {{ include "triptych.name" (dict "lane" .lane "name" "controller") }}}}
{{- end }}
{{- with include "triptych.tls-volume" . }}
{{ . }}
{{- end }}
{{- end }}
