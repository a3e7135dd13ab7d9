{{/* Triton's model control is for who has a key. */}}

{{- define "triptych.control-secret" -}}
{{ .Values.predictor.modelControl.secret | default (include "triptych.name" (list . "model-control")) }}
{{- end }}

{{/* The key as a variable: (list $ name). */}}
{{- define "triptych.control-variable" -}}
{{- if (index . 0).Values.predictor.modelControl.restricted -}}
- {name: {{ index . 1 }}, valueFrom: {secretKeyRef: {name: {{ include "triptych.control-secret" (index . 0) }}, key: key}}}
{{- end }}
{{- end }}

{{/* The option of Triton; Kubernetes puts the key in. What is not named stays open to preprocess. */}}
{{- define "triptych.control-option" -}}
{{- if .Values.predictor.modelControl.restricted -}}
- --grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key=$(MODEL_CONTROL_KEY)
{{- end }}
{{- end }}
