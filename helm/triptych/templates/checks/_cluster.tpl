{{/* Not empty if there is a kind. A cluster lists its kinds, and may have some of a group alone; `helm template` knows the
versions that it is given. Arguments: root; kind, as `group/version/Kind`. */}}
{{- define "triptych.has-kind" -}}
{{- $apis := .root.Capabilities.APIVersions -}}
{{- if ternary ($apis.Has .kind) (or ($apis.Has .kind) ($apis.Has (dir .kind))) ($apis.Has "v1/Pod") }}yes{{ end }}
{{- end }}

{{/* Fail without a kind. Arguments: root; kind, as `group/version/Kind`; product, which has it; use, of the values. */}}
{{- define "triptych.need-kind" -}}
{{- if not (include "triptych.has-kind" .) }}
{{- fail (printf "the cluster has no %s (%s), which %s (helm template has no cluster to ask: give it --api-versions)" .product .kind .use) }}
{{- end }}
{{- end }}

{{/* APIs that the values need and the cluster lacks. Arguments: root, lane. */}}
{{- define "triptych.check-cluster" -}}
{{- $values := .lane.values -}}
{{- $modes := list -}}
{{- range $stage := .lane.stages }}{{ $modes = append $modes (index $.lane.modes $stage) }}{{ end -}}
{{- $needs := list -}}
{{- if without $modes "Deployment" }}
{{- $needs = append $needs (list "KServe" "serving.kserve.io/v1beta1/InferenceService" (printf "mode %s needs; mode: Deployment works without" $values.mode)) }}
{{- end }}
{{- if has "Knative" $modes }}
{{- $needs = append $needs (list "Knative Serving" "serving.knative.dev/v1/Service" "mode Knative needs; mode: Standard works without") }}
{{- end }}
{{- if $values.gateway.enabled }}
{{- $needs = append $needs (list "Gateway API 1.1 or later" "gateway.networking.k8s.io/v1/GRPCRoute" "gateway.enabled needs; without it, preprocess is reached by its Service") }}
{{- end }}
{{- if and $values.gateway.enabled $values.gateway.retries }}
{{- $needs = append $needs (list "Envoy Gateway" "gateway.envoyproxy.io/v1alpha1/BackendTrafficPolicy" "gateway.retries needs; gateway.retries: 0 works without, and callers retry") }}
{{- end }}
{{- if $values.metrics.serviceMonitor.enabled }}
{{- $needs = append $needs (list "Prometheus operator" "monitoring.coreos.com/v1/ServiceMonitor" "metrics.serviceMonitor.enabled needs; metrics.annotations works without") }}
{{- end }}
{{- if $values.tls.issuer }}
{{- $needs = append $needs (list "cert-manager" "cert-manager.io/v1/Certificate" "tls.issuer needs; tls.secret works without") }}
{{- end }}
{{- range $stage := .lane.stages }}
{{- $signal := include "triptych.autoscaling-signal" (dict "lane" $.lane "stage" $stage) }}
{{- if eq $signal "queue" }}
{{- $needs = append $needs (list "KEDA" "keda.sh/v1alpha1/ScaledObject" (printf "%s.autoscaling.signal queue needs; signal cpu works without" $stage)) }}
{{- else if eq $signal "parts" }}
{{- $needs = append $needs (list "KEDA" "keda.sh/v1alpha1/ScaledObject" "jobs.workers.autoscaling.maxReplicas needs; jobs.workers.replicas alone works without") }}
{{- end }}
{{- end }}
{{- range $need := $needs }}
{{- include "triptych.need-kind" (dict "root" $.root "product" (index $need 0) "kind" (index $need 1) "use" (index $need 2)) }}
{{- end }}
{{- end }}

{{/* Whoever may not read ServedModels cannot grant that to the controller, and half of the release would be made before
the API server refuses its Role. A lookup without the right fails here instead, with the API server's sentence; it finds
nothing without a cluster. Arguments: root. */}}
{{- define "triptych.check-rights" -}}
{{- if .root.Capabilities.APIVersions.Has "triptych.dev/v1alpha1" }}
{{- $_ := lookup "triptych.dev/v1alpha1" "ServedModel" .root.Release.Namespace "controller" }}
{{- end }}
{{- end }}
