{{/* Secrets that the chart makes. */}}

{{/* A Secret with a random key that upgrades keep. Arguments: root, lane, component, name; value: names another Secret. */}}
{{- define "triptych.key-secret" -}}
{{- $name := include "triptych.name" (dict "lane" .lane "name" .name) -}}
{{- $existing := (lookup "v1" "Secret" .root.Release.Namespace $name).data | default dict -}}
# A render without a cluster makes another key each time: name a Secret of your own in {{ .value }}.
apiVersion: v1
kind: Secret
metadata:
  {{- include "triptych.metadata" . | nindent 2 }}
data:
  key: {{ $existing.key | default (randAlphaNum 32 | b64enc) }}
{{- end }}

{{/* The Secret with the key of Triton's model control. Argument: lane. */}}
{{- define "triptych.control-secret" -}}
{{ .lane.values.predictor.modelControl.secret | default (include "triptych.name" (dict "lane" .lane "name" "model-control")) }}
{{- end }}

{{/* The key of Triton's model control as an environment variable; empty without a restriction. Arguments: lane, variable. */}}
{{- define "triptych.control-variable" -}}
{{- if .lane.values.predictor.modelControl.restricted -}}
- {name: {{ .variable }}, valueFrom: {secretKeyRef: {name: {{ include "triptych.control-secret" . | quote }}, key: key}}}
{{- end }}
{{- end }}
