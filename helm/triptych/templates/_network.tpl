{{/* Peers of this release: (list $lane component...), those whose pods have one of these components in the lane. What is
stable has those of the canary beside them, which call it where their lane has none of its own; but each controller
has Tritons of its own. */}}
{{- define "triptych.peers" -}}
{{- $lane := index . 0 -}}
{{- $components := list -}}
{{- range $component := rest . -}}
{{- range ternary (list $lane) $lane.Lanes (or (not (not $lane.Lane)) (eq $component "controller")) -}}
{{- $components = append $components (printf "%s%s" $component (include "triptych.suffix" (list . $component))) -}}
{{- end -}}
{{- end -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ $lane.Chart.Name }}
      app.kubernetes.io/instance: {{ $lane.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " (uniq $components) }}]}
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

{{/* The IP families of a Service, as lines of its spec; nothing where the cluster decides. */}}
{{- define "triptych.families" -}}
{{- with .Values.network.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .Values.network.ipFamilies }}
ipFamilies: [{{ join ", " . }}]
{{- end }}
{{- end }}

{{/* Not empty where containers have to listen on IPv6. */}}
{{- define "triptych.listens-on-ipv6" -}}
{{- if or (has "IPv6" .Values.network.ipFamilies) (has .Values.network.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack")) }}yes{{ end }}
{{- end }}
