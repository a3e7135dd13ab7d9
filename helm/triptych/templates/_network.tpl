{{/* Peers of this release: (list $ component...), those whose pods have one of these components. */}}
{{- define "triptych.peers" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
      app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " (rest .) }}]}
{{- end }}

{{/* The rule for metrics: (list $ stage...). */}}
{{- define "triptych.metrics-rule" -}}
- ports:
    {{- range rest . }}
    - {port: {{ include "triptych.metrics-port" . }}, protocol: TCP}
    {{- end }}
  {{- with (index . 0).Values.networkPolicy.scrapers }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
