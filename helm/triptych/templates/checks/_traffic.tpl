{{/* Gateway, NetworkPolicies and TLS. Arguments of each: root, lane. */}}

{{- define "triptych.check-gateway" -}}
{{- if .lane.values.gateway.enabled }}
{{- if eq .lane.modes.preprocess "Knative" }}
{{- fail "gateway.enabled is true and preprocess is in Knative mode: Knative has its own ingress; leave the gateway out" }}
{{- end }}
{{- if not .lane.values.gateway.parents }}
{{- fail "gateway.enabled is true and gateway.parents is empty: name the Gateway that the route attaches to" }}
{{- end }}
{{- if not .lane.values.gateway.hostnames }}
{{- fail "gateway.enabled is true and gateway.hostnames is empty: name the hosts of the route, as in [triptych.example.com]. [\"*\"] takes all calls that no other route of the Gateway takes; of two such routes the older one takes them all" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Knative's proxies stand between a stage and its callers, so a policy could not tell callers apart. */}}
{{- define "triptych.check-network-policy" -}}
{{- $policy := .lane.values.networkPolicy -}}
{{- if and $policy.enabled $policy.callers (eq .lane.modes.preprocess "Knative") }}
{{- fail "networkPolicy.callers is set and preprocess is in Knative mode, where all calls come from Knative's ingress: restrict them there" }}
{{- end }}
{{- end }}

{{- define "triptych.check-tls" -}}
{{- $values := .lane.values -}}
{{- $tls := $values.tls -}}
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
{{- if and $tls.dnsNames (not $tls.issuer) }}
{{- fail "tls.dnsNames is set and tls.issuer is not: the names of tls.secret are those that you gave its certificate" }}
{{- end }}
{{- if $tls.issuer }}{{ include "triptych.check-tls-secret" . }}{{ end }}
{{- range $stage := list "preprocess" "postprocess" }}
{{- if eq "Knative" (index $.lane.modes $stage) }}
{{- fail (printf "tls.mode is %s and %s is in Knative mode, whose queue-proxy speaks plaintext to the container: tls.mode: none there, or another mode" $tls.mode $stage) }}
{{- end }}
{{- end }}
{{- if or $values.gateway.enabled $values.canary.enabled }}
{{- fail (printf "tls.mode is %s and gateway.enabled or canary.enabled is true: the gateway speaks plaintext to preprocess; end TLS at the gateway with tls.mode: none, or leave the gateway, and the canary that it splits, out" $tls.mode) }}
{{- end }}
{{- end }}
{{- end }}

{{/* cert-manager overwrites a Secret of that name, whoever made it. */}}
{{- define "triptych.check-tls-secret" -}}
{{- $name := include "triptych.tls-secret" . -}}
{{- $metadata := (lookup "v1" "Secret" .root.Release.Namespace $name).metadata | default dict -}}
{{- if and $metadata.name (ne $name (get ($metadata.annotations | default dict) "cert-manager.io/certificate-name")) }}
{{- fail (printf "tls.issuer is set and Secret %s exists, which cert-manager did not make for this release and would overwrite: use it by tls.secret, or delete or rename it" $name) }}
{{- end }}
{{- end }}
