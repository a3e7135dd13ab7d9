{{/* TLS of the Python services: what they serve with, trust and show is one Secret, mounted at /tls. */}}

{{/* The Secret; empty when calls are plaintext. */}}
{{- define "triptych.tls-secret" -}}
{{- if ne .Values.tls.mode "none" }}
{{- .Values.tls.secret | default (include "triptych.name" (list . "tls")) }}
{{- end }}
{{- end }}

{{/* The settings that it makes: (list $ stage), as JSON. */}}
{{- define "triptych.tls-settings" -}}
{{- $root := index . 0 -}}
{{- $settings := dict -}}
{{- if ne $root.Values.tls.mode "none" }}
{{- $settings = dict "tls_cert" "/tls/tls.crt" "tls_key" "/tls/tls.key" "upstream_ca" "/tls/ca.crt" }}
{{- if eq $root.Values.tls.mode "mutual" }}
{{- $settings = merge $settings (dict "tls_client_ca" "/tls/ca.crt" "upstream_cert" "/tls/tls.crt" "upstream_key" "/tls/tls.key") }}
{{- end }}
{{- if eq (index . 1) "controller" }}
{{- $_ := set $settings "replica_name" (include "triptych.name" (list $root "controller")) }}
{{- if eq $root.Values.tls.mode "mutual" }}
{{- $_ := set $settings "stage_names" (printf "%s,%s" (include "triptych.name" (list $root "preprocess")) (include "triptych.name" (list $root "controller"))) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $settings }}
{{- end }}

{{/* Where a container has it. */}}
{{- define "triptych.tls-mounts" -}}
{{- if include "triptych.tls-secret" . -}}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end }}

{{- define "triptych.tls-volumes" -}}
{{- with include "triptych.tls-secret" . -}}
- {name: tls, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}

{{/* For the callers that are no stage: the paths of the files, by the names of their variables: (list $ ca cert key). */}}
{{- define "triptych.tls-caller" -}}
{{- $mode := (index . 0).Values.tls.mode -}}
{{- if ne $mode "none" -}}
- {name: {{ index . 1 }}, value: /tls/ca.crt}
{{- end }}
{{- if eq $mode "mutual" }}
- {name: {{ index . 2 }}, value: /tls/tls.crt}
- {name: {{ index . 3 }}, value: /tls/tls.key}
{{- end }}
{{- end }}

{{/* The volume of such a caller: the private key is there only if it shows a certificate. */}}
{{- define "triptych.tls-caller-volume" -}}
{{- with include "triptych.tls-secret" . -}}
- {name: tls, secret: {secretName: {{ . }}{{ if eq $.Values.tls.mode "tls" }}, items: [{key: ca.crt, path: ca.crt}]{{ end }}}}
{{- end }}
{{- end }}

{{/* What a port speaks, for a Service: HTTP/2 without TLS. */}}
{{- define "triptych.speaks" -}}
{{- if eq .Values.tls.mode "none" }}, appProtocol: kubernetes.io/h2c{{ end }}
{{- end }}

{{/* The names that the stages are called by: those of their Services, KServe's too. */}}
{{- define "triptych.tls-names" -}}
{{- $names := list -}}
{{- $called := ternary (list "preprocess") (list "preprocess" "postprocess") (not (not (include "triptych.in-process" .))) -}}
{{- range concat $called (list "preprocess-pods" "controller") -}}
{{- $names = append $names (include "triptych.name" (list $ .)) -}}
{{- end -}}
{{- range $called -}}
{{- $names = append $names (include "triptych.deployment" (list $ .)) -}}
{{- end -}}
{{- range uniq $names }}
- {{ . }}
- {{ . }}.{{ $.Release.Namespace }}
- {{ . }}.{{ $.Release.Namespace }}.svc
- {{ . }}.{{ $.Release.Namespace }}.svc.cluster.local
{{- end }}
{{- end }}

{{- define "triptych.check-tls" -}}
{{- $tls := .Values.tls -}}
{{- if eq $tls.mode "none" }}
{{- if or $tls.secret $tls.issuer }}
{{- fail (printf "tls.%s is set and tls.mode is none: nothing would be encrypted; set tls.mode to tls or mutual" (ternary "secret" "issuer" (not (not $tls.secret)))) }}
{{- end }}
{{- else }}
{{- if and $tls.secret $tls.issuer }}
{{- fail "tls.secret and tls.issuer are both set: either you make the Secret, or cert-manager does" }}
{{- end }}
{{- if not (or $tls.secret $tls.issuer) }}
{{- fail (printf "tls.mode is %s, and neither tls.secret names a Secret with tls.crt, tls.key and ca.crt, nor tls.issuer who makes one" $tls.mode) }}
{{- end }}
{{- if and $tls.issuer (not $tls.issuer.name) }}
{{- fail "tls.issuer has no name: name an Issuer of the namespace, or with kind: ClusterIssuer one of the cluster" }}
{{- end }}
{{- range $stage := list "preprocess" "postprocess" }}
{{- if eq "Knative" (include "triptych.mode" (list $ $stage)) }}
{{- fail (printf "tls.mode is %s and %s is in Knative mode, whose queue-proxy speaks plaintext to the container: tls.mode: none there, or another mode" $tls.mode $stage) }}
{{- end }}
{{- end }}
{{- if or .Values.gateway.enabled .Values.canary.enabled }}
{{- fail (printf "tls.mode is %s and gateway.enabled or canary.enabled is true: the gateway speaks plaintext to preprocess; end TLS at the gateway with tls.mode: none, or leave the gateway, and the canary that it splits, out" $tls.mode) }}
{{- end }}
{{- if and $tls.issuer (not (.Capabilities.APIVersions.Has "cert-manager.io/v1")) }}
{{- fail "the cluster has no cert-manager (cert-manager.io/v1), which tls.issuer needs; tls.secret works without (helm template has no cluster to ask: give it --api-versions)" }}
{{- end }}
{{- end }}
{{- end }}
