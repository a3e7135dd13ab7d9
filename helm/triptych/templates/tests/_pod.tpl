{{/* The container of `helm test`: one check. Arguments: root, lane; check: its name; targets: addresses. */}}
{{- define "triptych.test-container" -}}
{{- $values := .lane.values -}}
name: test
image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" $values.preprocess.image) | quote }}
imagePullPolicy: {{ $values.imagePullPolicy }}
command: [python, /smoke-test/smoke_test.py, {{ .check }}, {{ int $values.test.timeoutSeconds | quote }}, {{ join ", " .targets }}]
{{- include "triptych.container-env" (merge (dict "stage" "test") .) }}
{{- include "triptych.container-resources" (dict "lane" .lane "stage" "test") }}
securityContext:
  {{- include "triptych.container-security" . | nindent 2 }}
{{- include "triptych.container-mounts" (dict "root" .root "lane" .lane "stage" "test") }}
{{- end }}

{{- define "triptych.test-env" -}}
{{- if hasPrefix "backend-" .check }}
- {name: JWT_KEY, valueFrom: {secretKeyRef: {name: {{ include "triptych.backend-secret" . | quote }}, key: key}}}
- {name: JWT_AUDIENCE, value: {{ .lane.values.backend.jwt.audience | quote }}}
{{- else }}
{{ include "triptych.tls-caller-env" (dict "lane" .lane "ca" "TLS_CA" "cert" "TLS_CERT" "key" "TLS_KEY") }}
{{- end }}
{{- end }}

{{- define "triptych.test-mounts" -}}
- {name: smoke-test, mountPath: /smoke-test, readOnly: true}
{{- with include "triptych.tls-mount" . }}
{{ . }}
{{- end }}
{{- end }}

{{- define "triptych.test-volumes" -}}
{{- with include "triptych.tls-caller-volume" . }}
{{ . }}
{{- end }}
- {name: smoke-test, configMap: {name: {{ include "triptych.name" (dict "lane" .lane "name" "test") }}}}
{{- end }}
