{{/* Preprocess and Triton in one pod. Arguments: root, lane. */}}
{{- define "triptych.grouped-pod" -}}
{{- $preprocess := dict "root" .root "lane" .lane "stage" "preprocess" "component" "grouped" "container" "kserve-container" -}}
{{- $predictor := dict "root" .root "lane" .lane "stage" "predictor" "component" "grouped" "container" "predictor" -}}
{{ include "triptych.pod-fields" $preprocess }}
{{- include "triptych.triton-init-containers" $predictor }}
containers:
  - {{ include "triptych.python-container" $preprocess | indent 4 | trim }}
  - {{ include "triptych.predictor-container" $predictor | indent 4 | trim }}
{{- include "triptych.pod-volumes" $preprocess }}
{{- end }}

{{- define "triptych.grouped-volumes" -}}
{{ include "triptych.predictor-volumes" . }}
{{- with include "triptych.preprocess-volumes" . }}
{{ . }}
{{- end }}
{{- end }}
