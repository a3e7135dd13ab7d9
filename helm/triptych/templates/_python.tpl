{{/* The container of a Python stage: preprocess, postprocess, controller, jobs or jobs-worker. */}}

{{/* Arguments: root, lane, stage, container. */}}
{{- define "triptych.python-container" -}}
{{- $values := index .lane.values .stage -}}
name: {{ .container }}
image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" $values.image) | quote }}
imagePullPolicy: {{ .lane.values.imagePullPolicy }}
ports:
  {{- include "triptych.ports" . | nindent 2 }}
{{- include "triptych.container-env" . }}
{{- include "triptych.container-resources" . }}
{{ include "triptych.python-probes" . }}
{{- if ne (index .lane.modes .stage) "Knative" }}
{{- include "triptych.lifecycle" . }}
{{- end }}
# The status of a pod that ended shows why.
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "triptych.container-security" . | nindent 2 }}
{{- include "triptych.container-mounts" . }}
{{- end }}

{{/* Live: the event loop turns. Ready: the stage has reached its upstreams once. A gRPC probe speaks no TLS, so with TLS
the probes use the port of the metrics. Arguments: lane, stage. */}}
{{- define "triptych.python-probes" -}}
{{- $live := printf "grpc: {port: %s, service: live}" (include "triptych.port" .) -}}
{{- $ready := printf "grpc: {port: %s, service: \"\"}" (include "triptych.port" .) -}}
{{- if include "triptych.tls-secret" . -}}
{{- $live = printf "httpGet: {path: /live, port: %s}" (include "triptych.metrics-port" .) -}}
{{- $ready = printf "httpGet: {path: /ready, port: %s}" (include "triptych.metrics-port" .) -}}
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

{{/* The environment of a stage without `extraEnv`. Arguments: root, lane, stage. */}}
{{- define "triptych.python-env" -}}
{{- $values := index .lane.values .stage -}}
{{- $revision := ($values.settings | default dict).revision | default (include "triptych.revision" (dict "root" .root "lane" .lane "image" $values.image)) -}}
# The first, because the patches in manifests/examples/promotion name it by its index.
- {name: {{ include "triptych.prefix" . }}_REVISION, value: {{ include "triptych.setting" (dict "value" $revision) | quote }}}
{{- if or (eq .stage "controller") (and (eq .stage "preprocess") (eq .lane.values.mode "Grouped")) }}
- {name: POD_IP, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}}
{{- end }}
{{- if eq .stage "controller" }}
- {name: POD_NAME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: metadata.name}}}
{{- with include "triptych.control-variable" (dict "lane" .lane "variable" "CONTROLLER_TRITON_KEY") }}
{{ . }}
{{- end }}
{{- with include "triptych.store-env" . | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- if hasPrefix "jobs" .stage }}
{{- with include "triptych.jobs-secrets" . | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- range $name, $value := include "triptych.python-settings" . | fromJson }}
- {name: {{ printf "%s_%s" (include "triptych.prefix" $) (upper $name) }}, value: {{ include "triptych.setting" (dict "value" $value) | quote }}}
{{- end }}
{{- end }}

{{/* A setting as text. toJson writes a large number without an exponent. Argument: value. */}}
{{- define "triptych.setting" -}}
{{ ternary (toJson .value) (.value | toString) (kindIs "float64" .value) }}
{{- end }}

{{/* The settings of a stage as JSON: those of the chart and those of the values. Arguments: root, lane, stage. */}}
{{- define "triptych.python-settings" -}}
{{- $settings := include "triptych.chart-settings" . | fromJson -}}
{{- $settings = merge $settings (omit ((index .lane.values .stage).settings | default dict) "revision") -}}
{{- if include "triptych.listens-on-ipv6" . }}{{ $_ := set $settings "host" "::" }}{{ end -}}
{{- if and (eq "Knative" (index .lane.modes .stage)) (not (hasKey $settings "connection_age_s")) -}}
{{- /* Its only caller is the queue-proxy of its own pod. */ -}}
{{- $_ := set $settings "connection_age_s" 0 -}}
{{- end -}}
{{- if and (eq "preprocess" .stage) (not (hasKey $settings "predictor_batches")) -}}
{{- with include "triptych.predictor-batches" .lane.values.predictor }}{{ $_ := set $settings "predictor_batches" (atoi .) }}{{ end -}}
{{- end -}}
{{- toJson $settings }}
{{- end }}

{{/* Batches in flight at once for a Triton without a GPU: four for each core. Empty without a limit of its CPUs.
Argument: the values of the predictor. */}}
{{- define "triptych.predictor-batches" -}}
{{- $cpu := dig "limits" "cpu" "" (.resources | default dict) | toString -}}
{{- if and (not .gpus) (regexMatch "^[0-9.]+m?$" $cpu) -}}
{{- $cores := float64 (trimSuffix "m" $cpu) -}}
{{- if hasSuffix "m" $cpu }}{{ $cores = divf $cores 1000 }}{{ end -}}
{{ mul 4 (max 1 (ceil $cores | int)) }}
{{- end -}}
{{- end }}

{{/* The settings that the chart makes out of other values, as JSON. Arguments: root, lane, stage. */}}
{{- define "triptych.chart-settings" -}}
{{- $shutdown := (index .lane.values .stage).shutdown -}}
{{- $settings := merge
      (dict "drain_s" $shutdown.drainSeconds "grace_s" $shutdown.graceSeconds)
      (include (printf "triptych.%s-settings" .stage) . | fromJson)
      (include "triptych.tls-settings" . | fromJson) -}}
{{- with .lane.values.tracing.endpoint }}{{ $_ := set $settings "otlp_endpoint" . }}{{ end -}}
{{- toJson $settings }}
{{- end }}
