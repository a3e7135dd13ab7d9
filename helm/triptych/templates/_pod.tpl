{{/* The pods: the same in every mode, but for what Knative does not take. */}}

{{/* Annotations of the pods of a component: (list $ component metrics-port container); no port, no metrics. */}}
{{- define "triptych.pod-annotations" -}}
{{- $values := (index . 0).Values -}}
kubectl.kubernetes.io/default-container: {{ index . 3 }}
{{- if and $values.metrics.annotations (index . 2) }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 2 | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- if and (eq (index . 1) "backend") (eq $values.backend.features.store "embedded") }}
# The embedded store is filled when a pod starts.
triptych.dev/articles: {{ toJson $values.backend.features.articles | sha256sum | trunc 16 | quote }}
{{- end }}
{{- with $values.pods.annotations }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of the pods of a component: (list $ component). None that an upgrade changes: it would restart them. */}}
{{- define "triptych.pod-labels" -}}
{{ include "triptych.selector" . }}
{{- with (index . 0).Values.pods.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What every pod has, beside its containers: (list $ component knative?). */}}
{{- define "triptych.pod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $pods := $root.Values.pods -}}
serviceAccountName: {{ include "triptych.name" (list $root $component) }}
# A Service named as a stage would set variables that its settings do not know.
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- if not (index . 2) }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $pods.user }}
  runAsGroup: {{ $pods.user }}
  fsGroup: {{ $pods.user }}
  seccompProfile: {type: RuntimeDefault}
{{- with $pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pods.spreadOver }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "triptych.selector" (list $root $component) | nindent 8 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The security of every container. */}}
{{- define "triptych.container-security" -}}
runAsNonRoot: true
runAsUser: {{ .Values.pods.user }}
runAsGroup: {{ .Values.pods.user }}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Ports of a container: (list $ stage). Knative takes one, named h2c. */}}
{{- define "triptych.ports" -}}
{{- $stage := index . 1 -}}
{{- if eq (include "triptych.mode" .) "Knative" -}}
- {name: h2c, containerPort: {{ include "triptych.port" $stage }}, protocol: TCP}
{{- else -}}
- {name: grpc, containerPort: {{ include "triptych.port" $stage }}, protocol: TCP}
- {name: metrics, containerPort: {{ include "triptych.metrics-port" $stage }}, protocol: TCP}
{{- end }}
{{- end }}

{{/* Probes of a Python service: live, when its loop turns; ready, when it has reached what it needs: (list $ stage).
Those of gRPC speak no TLS; with it, the same voices are heard on the port of the metrics. */}}
{{- define "triptych.probes" -}}
{{- $live := printf "grpc: {port: %s, service: live}" (include "triptych.port" (index . 1)) -}}
{{- $ready := printf "grpc: {port: %s}" (include "triptych.port" (index . 1)) -}}
{{- if include "triptych.tls-secret" (index . 0) -}}
{{- $live = printf "httpGet: {path: /live, port: %s}" (include "triptych.metrics-port" (index . 1)) -}}
{{- $ready = printf "httpGet: {path: /ready, port: %s}" (include "triptych.metrics-port" (index . 1)) -}}
{{- end -}}
startupProbe:
  {{ $live }}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  {{ $live }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  {{ $ready }}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end }}

{{/* The environment of a Python service: (list $ stage settings), settings being those that the chart makes. */}}
{{- define "triptych.environment" -}}
{{- $root := index . 0 -}}
{{- $stage := index . 1 -}}
{{- $values := index $root.Values $stage -}}
{{- $settings := merge (dict
      "drain_s" $values.shutdown.drainSeconds
      "grace_s" $values.shutdown.graceSeconds) (index . 2) (include "triptych.tls-settings" (list $root $stage) | fromJson) -}}
{{- $reserved := list "host" "port" "metrics_port" "otlp_endpoint" "triton_key" "tls_cert" "tls_key" "tls_client_ca" "upstream_ca" "upstream_cert" "upstream_key" "replica_name" -}}
{{- with $root.Values.tracing.endpoint }}{{ $_ := set $settings "otlp_endpoint" . }}{{ end -}}
{{- range $name, $value := $values.settings }}
{{- if or (hasKey $settings $name) (has $name $reserved) }}
{{- fail (printf "%s.settings.%s: the chart sets this itself; leave it out" (include "triptych.said" (list $root $stage)) $name) }}
{{- end }}
{{- end }}
{{- $settings = merge $settings (omit $values.settings "revision") -}}
{{- if include "triptych.listens-on-ipv6" $root }}{{ $_ := set $settings "host" "::" }}{{ end -}}
{{- if and (eq "Knative" (include "triptych.mode" (list $root $stage))) (not (hasKey $settings "connection_age_s")) -}}
{{- /* Its one caller is the queue-proxy of its own pod. */ -}}
{{- $_ := set $settings "connection_age_s" 0 -}}
{{- end -}}
{{- range $name, $value := $settings -}}
- {name: {{ upper (printf "%s_%s" $stage $name) }}, value: {{ ternary (toJson $value) ($value | toString) (kindIs "float64" $value) | quote }}}
{{ end }}
{{- end }}

{{/* The sleep before SIGTERM. Knative has its own. */}}
{{- define "triptych.server.lifecycle" -}}
{{- if gt (int .shutdown.preStopSeconds) 0 }}
lifecycle:
  preStop: {sleep: {seconds: {{ .shutdown.preStopSeconds }}}}
{{- end }}
{{- end }}

{{/* A container of a Python service: (list $ stage container-name settings). */}}
{{- define "triptych.python-container" -}}
{{- $root := index . 0 -}}
{{- $stage := index . 1 -}}
{{- $values := index $root.Values $stage -}}
name: {{ index . 2 }}
image: {{ include "triptych.image" (list $root $values.image) }}
imagePullPolicy: {{ $root.Values.imagePullPolicy }}
ports:
  {{- include "triptych.ports" (list $root $stage) | nindent 2 }}
env:
  {{- $revision := $values.settings.revision | default (include "triptych.revision" (list $root $values.image)) }}
  # The first, where a patch finds it: manifests/examples/promotion.
  - {name: {{ upper $stage }}_REVISION, value: {{ $revision | quote }}}
  {{- if or (eq $stage "controller") (and (eq $stage "preprocess") (eq $root.Values.mode "Grouped")) }}
  - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  {{- end }}
  {{- if eq $stage "controller" }}
  - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  {{- with include "triptych.control-variable" (list $root "CONTROLLER_TRITON_KEY") }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "triptych.store-environment" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- end }}
  {{- include "triptych.environment" (list $root $stage (index . 3)) | trim | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
{{ include "triptych.probes" (list $root $stage) }}
{{- if ne (include "triptych.mode" (list $root $stage)) "Knative" }}
{{- include "triptych.server.lifecycle" $values }}
{{- end }}
# Why it ended, where the pod is looked at.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "triptych.container-security" $root | nindent 2 }}
{{- end }}
