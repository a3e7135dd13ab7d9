{{/* TLS of the Python services. One Secret, mounted at /tls, has the certificate, its key and the authority. */}}

{{/* The name of the Secret; empty without TLS. Argument: lane. */}}
{{- define "triptych.tls-secret" -}}
{{- if ne .lane.values.tls.mode "none" }}
{{- .lane.values.tls.secret | default (include "triptych.name" (dict "lane" .lane "name" "tls")) }}
{{- end }}
{{- end }}

{{/* The settings of a stage for TLS, as JSON. Arguments: lane, stage. */}}
{{- define "triptych.tls-settings" -}}
{{- $mode := .lane.values.tls.mode -}}
{{- $settings := dict -}}
{{- if ne $mode "none" }}
{{- $settings = dict "tls_cert" "/tls/tls.crt" "tls_key" "/tls/tls.key" "upstream_ca" "/tls/ca.crt" }}
{{- if eq $mode "mutual" }}
{{- $settings = merge $settings (dict "tls_client_ca" "/tls/ca.crt" "upstream_cert" "/tls/tls.crt" "upstream_key" "/tls/tls.key") }}
{{- end }}
{{- if eq .stage "controller" }}
{{- $name := include "triptych.name" (dict "lane" .lane "name" "controller") }}
{{- $_ := set $settings "replica_name" $name }}
{{- if eq $mode "mutual" }}
{{- $_ := set $settings "stage_names" (printf "%s,%s" (include "triptych.name" (dict "lane" .lane "name" "preprocess")) $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $settings }}
{{- end }}

{{/* The mount of the Secret in a container. Argument: lane. */}}
{{- define "triptych.tls-mount" -}}
{{- if include "triptych.tls-secret" . -}}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end }}

{{/* The volume of a stage's pod. Argument: lane. */}}
{{- define "triptych.tls-volume" -}}
{{- with include "triptych.tls-secret" . -}}
- {name: tls, secret: {secretName: {{ . | quote }}}}
{{- end }}
{{- end }}

{{/* The volume of a caller that is no stage. It has the private key only if it shows a certificate. Argument: lane. */}}
{{- define "triptych.tls-caller-volume" -}}
{{- with include "triptych.tls-secret" . -}}
- {name: tls, secret: {secretName: {{ . | quote }}{{ if eq $.lane.values.tls.mode "tls" }}, items: [{key: ca.crt, path: ca.crt}]{{ end }}}}
{{- end }}
{{- end }}

{{/* The environment of such a caller: paths of the files. Arguments: lane; ca, cert, key: names of the variables. */}}
{{- define "triptych.tls-caller-env" -}}
{{- $mode := .lane.values.tls.mode -}}
{{- if ne $mode "none" -}}
- {name: {{ .ca }}, value: /tls/ca.crt}
{{- end }}
{{- if eq $mode "mutual" }}
- {name: {{ .cert }}, value: /tls/tls.crt}
- {name: {{ .key }}, value: /tls/tls.key}
{{- end }}
{{- end }}

{{/* The names of the certificate: every Service that a stage is called by, KServe's too. Arguments: root, lane. */}}
{{- define "triptych.tls-names" -}}
{{- $names := list -}}
{{- $stages := ternary (list "preprocess") (list "preprocess" "postprocess") .lane.inProcess -}}
{{- range concat $stages (list "preprocess-pods" "controller") (ternary (list "jobs") list .lane.values.jobs.enabled) -}}
{{- $names = append $names (include "triptych.name" (dict "lane" $.lane "name" .)) -}}
{{- end -}}
{{- range $stages -}}
{{- $names = append $names (include "triptych.deployment" (dict "lane" $.lane "stage" .)) -}}
{{- end -}}
{{- range uniq $names }}
- {{ . }}
- {{ . }}.{{ $.root.Release.Namespace }}
- {{ . }}.{{ $.root.Release.Namespace }}.svc
- {{ . }}.{{ $.root.Release.Namespace }}.svc.cluster.local
{{- end }}
{{- end }}
