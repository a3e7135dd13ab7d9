{{/* The example of a backend in front of preprocess. */}}

{{/* The Secret with the key of tokens. */}}
{{- define "triptych.backend-secret" -}}
{{ .Values.backend.jwt.secret | default (include "triptych.name" (list . "backend")) }}
{{- end }}

{{/* Where preprocess is: every pod of it, or in Knative mode the ingress that balances. */}}
{{- define "triptych.backend-chain" -}}
{{- if eq (include "triptych.mode" (list . "preprocess")) "Knative" -}}
{{ include "triptych.address" (list . "preprocess") }}
{{- else -}}
dns:///{{ include "triptych.name" (list . "preprocess-pods") }}:9000
{{- end }}
{{- end }}

{{/* The settings that the chart makes. */}}
{{- define "triptych.backend-settings" -}}
{{- $features := .Values.backend.features -}}
{{- $settings := dict
      "chain" (include "triptych.backend-chain" .)
      "jwt_audience" .Values.backend.jwt.audience
      "grace_s" .Values.backend.shutdown.graceSeconds -}}
{{- if eq $features.store "embedded" -}}
{{- $settings = merge $settings (dict "features" "sqlite::memory:" "articles" "/articles/articles.json") -}}
{{- else if eq $features.store "feast" -}}
{{- $_ := set $settings "features" (printf "feast+%s/%s" (trimSuffix "/" $features.url) $features.service) -}}
{{- else if $features.url -}}
{{- $_ := set $settings "features" $features.url -}}
{{- end -}}
{{- range $name, $value := .Values.backend.settings }}
{{- if or (hasKey $settings $name) (has $name (list "host" "port" "jwt_key" "features" "articles" "chain_ca" "chain_cert" "chain_key")) }}
{{- fail (printf "backend.settings.%s: the chart sets this itself; leave it out" $name) }}
{{- end }}
{{- end }}
{{- if include "triptych.listens-on-ipv6" . }}{{ $_ := set $settings "host" "::" }}{{ end -}}
{{- toJson (merge $settings .Values.backend.settings) }}
{{- end }}

{{- define "triptych.backend-environment" -}}
- {name: BACKEND_JWT_KEY, valueFrom: {secretKeyRef: {name: {{ include "triptych.backend-secret" . }}, key: key}}}
{{- with .Values.backend.features.secret }}
- {name: BACKEND_FEATURES, valueFrom: {secretKeyRef: {name: {{ . }}, key: url}}}
{{- end }}
{{- with include "triptych.tls-caller" (list . "BACKEND_CHAIN_CA" "BACKEND_CHAIN_CERT" "BACKEND_CHAIN_KEY") }}
{{ . }}
{{- end }}
{{- range $name, $value := include "triptych.backend-settings" . | fromJson }}
- {name: {{ upper (printf "backend_%s" $name) }}, value: {{ ternary (toJson $value) ($value | toString) (kindIs "float64" $value) | quote }}}
{{- end }}
{{- end }}

{{- define "triptych.backend-pod" -}}
{{- $values := .Values.backend -}}
{{- include "triptych.pod" (list . "backend" false) }}
automountServiceAccountToken: false
terminationGracePeriodSeconds: {{ $values.shutdown.terminationGracePeriodSeconds }}
containers:
  - name: backend
    image: {{ include "triptych.image" (list . $values.image) }}
    imagePullPolicy: {{ .Values.imagePullPolicy }}
    ports:
      - {name: http, containerPort: 8080, protocol: TCP}
    env:
      {{- include "triptych.backend-environment" . | trim | nindent 6 }}
    resources:
      {{- toYaml $values.resources | nindent 6 }}
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
    {{- with include "triptych.server.lifecycle" $values | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    terminationMessagePolicy: FallbackToLogsOnError
    securityContext:
      {{- include "triptych.container-security" . | nindent 6 }}
    {{- $tls := include "triptych.tls-secret" . }}
    {{- if or $tls (eq $values.features.store "embedded") }}
    volumeMounts:
      {{- if eq $values.features.store "embedded" }}
      - {name: articles, mountPath: /articles, readOnly: true}
      {{- end }}
      {{- if $tls }}
      - {name: tls, mountPath: /tls, readOnly: true}
      {{- end }}
    {{- end }}
{{- if or $tls (eq $values.features.store "embedded") }}
volumes:
  {{- if eq $values.features.store "embedded" }}
  - {name: articles, configMap: {name: {{ include "triptych.name" (list . "backend") }}}}
  {{- end }}
  {{- with include "triptych.tls-caller-volume" . }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "triptych.check-backend" -}}
{{- $backend := .Values.backend -}}
{{- $features := $backend.features -}}
{{- if $backend.enabled }}
{{- if and (eq $features.store "embedded") (or $features.url $features.secret $features.service) }}
{{- fail "backend.features.url, secret and service are for the stores redis and feast, and backend.features.store is embedded" }}
{{- end }}
{{- if and $features.articles (ne $features.store "embedded") }}
{{- fail (printf "backend.features.articles is for the embedded store, and backend.features.store is %s" $features.store) }}
{{- end }}
{{- if and (eq $features.store "redis") (eq (empty $features.url) (empty $features.secret)) }}
{{- fail "backend.features.store is redis: give backend.features.url, or backend.features.secret where the URL has a password" }}
{{- end }}
{{- if and (eq $features.store "redis") $features.service }}
{{- fail "backend.features.service is for store feast, and backend.features.store is redis" }}
{{- end }}
{{- if and (eq $features.store "redis") $features.url (not (hasPrefix "redis" $features.url)) }}
{{- fail (printf "backend.features.store is redis: backend.features.url has to begin with redis://, got %q" $features.url) }}
{{- end }}
{{- if and (eq $features.store "feast") (or (not (hasPrefix "http" $features.url)) (not $features.service) $features.secret) }}
{{- fail "backend.features.store is feast: give backend.features.url, as in http://feast:6566, and backend.features.service, and no secret" }}
{{- end }}
{{- include "triptych.check-shutdown" (list . "backend") }}
{{- end }}
{{- end }}
