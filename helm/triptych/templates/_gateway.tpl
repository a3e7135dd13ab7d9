{{/* The routes of a Gateway to preprocess, and the policies of Envoy Gateway for them. */}}

{{/*
A GRPCRoute to the lanes. The rule for all requests stays the first with and without a canary: Envoy Gateway names
Envoy's clusters by the index of the rule, and refuses requests for a cluster that is not there yet. A rule with headers
goes before one without, whatever its index. The defaults of the API server are written out, because the rules are one
field: with others than it stores, a server-side apply would be a conflict with whoever patched a weight.
Arguments: root, lanes, name; methods: those of the route, or none for all.
*/}}
{{- define "triptych.grpc-route" -}}
{{- $values := .root.Values -}}
{{- $backend := dict "group" "" "kind" "Service" "port" 9000 "weight" 1 -}}
{{- $stable := set (deepCopy $backend) "name" (include "triptych.name" (dict "lane" (first .lanes) "name" "preprocess")) -}}
{{- $canary := set (deepCopy $backend) "name" (include "triptych.name" (dict "lane" (last .lanes) "name" "preprocess")) -}}
{{- $split := and $values.canary.enabled (not $values.canary.ending) -}}
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata:
  {{- include "triptych.metadata" (dict "root" .root "lane" (first .lanes) "component" "preprocess" "name" .name) | nindent 2 }}
spec:
  parentRefs:
    {{- range $values.gateway.parents }}
    - {{ toJson (merge (deepCopy .) (dict "group" "gateway.networking.k8s.io" "kind" "Gateway")) }}
    {{- end }}
  {{- if not (has "*" $values.gateway.hostnames) }}
  hostnames:
    {{- toYaml $values.gateway.hostnames | nindent 4 }}
  {{- end }}
  rules:
    {{- if $split }}
    - backendRefs:
        - {{ toJson (set (deepCopy $stable) "weight" (sub 100 (int $values.canary.percent))) }}
        - {{ toJson (set (deepCopy $canary) "weight" (int $values.canary.percent)) }}
    {{- else }}
    - backendRefs: [{{ toJson $stable }}]
    {{- end }}
    {{- include "triptych.route-matches" (merge (dict "header" "") .) | nindent 6 }}
    {{- if and $split $values.canary.header }}
    {{- range $lane, $backend := dict "canary" $canary "stable" $stable }}
    - backendRefs: [{{ toJson $backend }}]
      {{- include "triptych.route-matches" (merge (dict "header" $values.canary.header "value" $lane) $) | nindent 6 }}
    {{- end }}
    {{- end }}
{{- end }}

{{/* The matches of a rule: each method, and a header. Arguments: methods, header, value. */}}
{{- define "triptych.route-matches" -}}
{{- $matches := list -}}
{{- range .methods | default (list dict) -}}
{{- $match := deepCopy . -}}
{{- if $.header }}{{ $_ := set $match "headers" (list (dict "type" "Exact" "name" $.header "value" $.value)) }}{{ end -}}
{{- if $match }}{{ $matches = append $matches $match }}{{ end -}}
{{- end -}}
{{- with $matches -}}
matches:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Seconds until the Gateway ends a call; empty if the chart does not set it. Argument: root. */}}
{{- define "triptych.route-timeout" -}}
{{- $seconds := .root.Values.gateway.timeoutSeconds -}}
{{- if not (or (kindIs "invalid" $seconds) (kindIs "string" $seconds)) }}{{ int64 $seconds }}{{ end }}
{{- end }}

{{/*
The policy of a route. Without one Envoy ends each call after 15 s, and the gRPC deadline of a caller changes nothing.
A timeout of 0 switches the time without a message off too, so that a stream may be silent. Keepalive then ends calls to
a pod whose node is gone. Policies of the Gateway stay in force beside this one.
Arguments: root, lane, name; timeout: seconds, or empty.
*/}}
{{- define "triptych.backend-traffic-policy" -}}
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata:
  {{- include "triptych.metadata" (merge (dict "component" "preprocess") .) | nindent 2 }}
spec:
  targetRefs:
    - {group: gateway.networking.k8s.io, kind: GRPCRoute, name: {{ include "triptych.name" . }}}
  mergeType: StrategicMerge
  {{- with .timeout }}
  timeout: {http: {requestTimeout: {{ . }}s}}
  tcpKeepalive: {probes: 3, idleTime: 10s, interval: 5s}
  {{- end }}
  {{- if .root.Values.gateway.retries }}
  # A request that a pod refuses, or does not answer, is sent to another pod. A prediction may be made twice.
  retry:
    numRetries: {{ int .root.Values.gateway.retries }}
    retryOn:
      triggers: [connect-failure, refused-stream, reset, unavailable]
    perRetry:
      backOff: {baseInterval: 25ms, maxInterval: 250ms}
  {{- end }}
{{- end }}
