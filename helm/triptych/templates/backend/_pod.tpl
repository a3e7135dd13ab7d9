{{/* The example of a backend in front of preprocess. Arguments: root, lane. */}}
{{- define "triptych.backend-pod" -}}
{{- $arguments := dict "root" .root "lane" .lane "stage" "backend" "component" "backend" -}}
{{ include "triptych.pod-fields" $arguments }}
containers:
  - {{ include "triptych.backend-container" $arguments | indent 4 | trim }}
{{- include "triptych.pod-volumes" $arguments }}
{{- end }}

{{/* Arguments: root, lane, stage. */}}
{{- define "triptych.backend-container" -}}
{{- $values := .lane.values.backend -}}
name: backend
image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" $values.image) | quote }}
imagePullPolicy: {{ .lane.values.imagePullPolicy }}
ports:
  - {name: http, containerPort: 8080, protocol: TCP}
{{- include "triptych.container-env" . }}
{{- include "triptych.container-resources" . }}
startupProbe:
  httpGet: {path: /live, port: 8080}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /live, port: 8080}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /ready, port: 8080}
  periodSeconds: 2
  timeoutSeconds: 2
{{- include "triptych.lifecycle" . }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "triptych.container-security" . | nindent 2 }}
{{- include "triptych.container-mounts" . }}
{{- end }}

{{/* The Secret with the key of tokens. Argument: lane. */}}
{{- define "triptych.backend-secret" -}}
{{ .lane.values.backend.jwt.secret | default (include "triptych.name" (dict "lane" .lane "name" "backend")) }}
{{- end }}

{{/* The settings that the chart makes, as JSON. Arguments: root, lane. */}}
{{- define "triptych.backend-settings" -}}
{{- $values := .lane.values.backend -}}
{{- $features := $values.features -}}
{{- $settings := dict
      "preprocess" (include "triptych.balanced-preprocess" .)
      "jwt_audience" $values.jwt.audience
      "grace_s" $values.shutdown.graceSeconds -}}
{{- if eq $features.store "embedded" -}}
{{- $settings = merge $settings (dict "features" "sqlite::memory:" "articles" "/articles/articles.json") -}}
{{- else if eq $features.store "feast" -}}
{{- $_ := set $settings "features" (printf "feast+%s/%s" (trimSuffix "/" $features.url) $features.service) -}}
{{- else if $features.url -}}
{{- $_ := set $settings "features" $features.url -}}
{{- end -}}
{{- toJson $settings }}
{{- end }}

{{- define "triptych.backend-env" -}}
{{- $values := .lane.values.backend -}}
- {name: BACKEND_JWT_KEY, valueFrom: {secretKeyRef: {name: {{ include "triptych.backend-secret" . | quote }}, key: key}}}
{{- with $values.features.secret }}
- {name: BACKEND_FEATURES, valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: url}}}
{{- end }}
{{- with include "triptych.tls-caller-env" (dict "lane" .lane "ca" "BACKEND_PREPROCESS_CA" "cert" "BACKEND_PREPROCESS_CERT" "key" "BACKEND_PREPROCESS_KEY") }}
{{ . }}
{{- end }}
{{- $settings := include "triptych.backend-settings" . | fromJson }}
{{- if include "triptych.listens-on-ipv6" . }}{{ $_ := set $settings "host" "::" }}{{ end }}
{{- range $name, $value := merge $settings ($values.settings | default dict) }}
- {name: {{ upper (printf "backend_%s" $name) }}, value: {{ include "triptych.setting" (dict "value" $value) | quote }}}
{{- end }}
{{- end }}

{{- define "triptych.backend-mounts" -}}
{{- if eq .lane.values.backend.features.store "embedded" }}
- {name: articles, mountPath: /articles, readOnly: true}
{{- end }}
{{- with include "triptych.tls-mount" . }}
{{ . }}
{{- end }}
{{- end }}

{{- define "triptych.backend-volumes" -}}
{{- if eq .lane.values.backend.features.store "embedded" }}
- {name: articles, configMap: {name: {{ include "triptych.name" (dict "lane" .lane "name" "backend") }}}}
{{- end }}
{{- with include "triptych.tls-caller-volume" . }}
{{ . }}
{{- end }}
{{- end }}
