{{/* Triton's model control is for who has a key. */}}

{{/* A Secret with a key of the chart's making, which upgrades keep: (list $ component name). */}}
{{- define "triptych.key-secret" -}}
{{- $root := index . 0 -}}
{{- $there := (lookup "v1" "Secret" $root.Release.Namespace (include "triptych.name" (list $root (index . 2)))).data | default dict -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "triptych.metadata" . | nindent 2 }}
data:
  key: {{ $there.key | default (randAlphaNum 32 | b64enc) }}
{{- end }}

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
