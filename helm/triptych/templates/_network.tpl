{{/* NetworkPolicies and IP families. */}}

{{/* A NetworkPolicy up to its list of ingress rules. Arguments: root, lane, component; egress: its rules as text, or
none. */}}
{{- define "triptych.network-policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "triptych.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "triptych.selector" . | nindent 6 }}
  policyTypes: [Ingress{{ if .egress }}, Egress{{ end }}]
  {{- with .egress }}
  egress:
    {{- . | nindent 4 }}
  {{- end }}
  ingress:
{{- end }}

{{/*
Peers of this release: the pods of these components. A stable stage also has the canary's pods as peers, because the
canary calls it for the stages that it does not run itself. Each controller has Tritons of its own, so the stable
predictor has no peer in the canary's controller.
Arguments: root, lanes, lane, components.
*/}}
{{- define "triptych.peers" -}}
{{- $names := list -}}
{{- range $component := .components -}}
{{- range ternary (list $.lane) $.lanes (or $.lane.canary (eq $component "controller")) -}}
{{- $names = append $names (printf "%s%s" $component (include "triptych.suffix" (dict "lane" . "name" $component))) -}}
{{- end -}}
{{- end -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "triptych.chart-name" . | quote }}
      app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " (uniq $names) }}]}
{{- end }}

{{/* The rule of a NetworkPolicy for the metrics of stages. Arguments: lane, stages. */}}
{{- define "triptych.metrics-rule" -}}
- ports:
    {{- range .stages }}
    - {port: {{ include "triptych.metrics-port" (dict "stage" .) }}, protocol: TCP}
    {{- end }}
  {{- with .lane.values.networkPolicy.scrapers }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* What jobs, workers and batches may call: rules of egress; empty if anything. Arguments: root, lanes, lane. */}}
{{- define "triptych.jobs-egress" -}}
{{- with .lane.values.networkPolicy.jobsEgress }}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
- ports: [{port: 9000, protocol: TCP}, {port: 9003, protocol: TCP}]
  to:
    {{- include "triptych.peers" (merge (dict "components" (list "preprocess" "grouped" "jobs")) $) | nindent 4 }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The IP families of a Service, as lines of its spec; empty if the cluster decides. Argument: lane. */}}
{{- define "triptych.families" -}}
{{- with .lane.values.network.ipFamilyPolicy }}
ipFamilyPolicy: {{ . }}
{{- end }}
{{- with .lane.values.network.ipFamilies }}
ipFamilies: [{{ join ", " . }}]
{{- end }}
{{- end }}

{{/* Not empty if containers have to listen on IPv6. Argument: lane. */}}
{{- define "triptych.listens-on-ipv6" -}}
{{- $network := .lane.values.network -}}
{{- if or (has "IPv6" ($network.ipFamilies | default list)) (has $network.ipFamilyPolicy (list "PreferDualStack" "RequireDualStack")) }}yes{{ end }}
{{- end }}

{{/* The application protocol of a port, for a Service. By the name grpc alone a mesh expects HTTP/2 without TLS. Argument:
lane. */}}
{{- define "triptych.app-protocol" -}}
, appProtocol: {{ ternary "kubernetes.io/h2c" "https" (eq .lane.values.tls.mode "none") }}
{{- end }}

{{/* The ports of preprocess that callers may reach. Arguments: lane. */}}
{{- define "triptych.caller-ports" -}}
[{port: 9000, protocol: TCP}{{ if .lane.values.preprocess.rest }}, {port: 8080, protocol: TCP}{{ end }}]
{{- end }}
