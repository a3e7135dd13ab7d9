{{/* APIs that the values need and the cluster lacks. Arguments: root, lane. */}}
{{- define "triptych.check-cluster" -}}
{{- $values := .lane.values -}}
{{- $apis := .root.Capabilities.APIVersions -}}
{{- $modes := list -}}
{{- range $stage := .lane.stages }}{{ $modes = append $modes (index $.lane.modes $stage) }}{{ end -}}
{{- $hint := "(helm template has no cluster to ask: give it --api-versions)" -}}
{{- if and (without $modes "Deployment") (not ($apis.Has "serving.kserve.io/v1beta1")) }}
{{- fail (printf "the cluster has no KServe (serving.kserve.io/v1beta1), which mode %s needs; mode: Deployment works without %s" $values.mode $hint) }}
{{- end }}
{{- if and (has "Knative" $modes) (not ($apis.Has "serving.knative.dev/v1")) }}
{{- fail (printf "the cluster has no Knative Serving (serving.knative.dev/v1), which mode Knative needs; mode: Standard works without %s" $hint) }}
{{- end }}
{{- if and $values.gateway.enabled (not ($apis.Has "gateway.networking.k8s.io/v1")) }}
{{- fail (printf "the cluster has no Gateway API (gateway.networking.k8s.io/v1), which gateway.enabled needs; without it, preprocess is reached by its Service %s" $hint) }}
{{- end }}
{{- if and $values.gateway.enabled $values.gateway.retries (not ($apis.Has "gateway.envoyproxy.io/v1alpha1")) }}
{{- fail (printf "the cluster has no Envoy Gateway (gateway.envoyproxy.io/v1alpha1), which gateway.retries needs; gateway.retries: 0 works without, and callers retry %s" $hint) }}
{{- end }}
{{- if and $values.metrics.serviceMonitor.enabled (not ($apis.Has "monitoring.coreos.com/v1")) }}
{{- fail (printf "the cluster has no Prometheus operator (monitoring.coreos.com/v1), which metrics.serviceMonitor.enabled needs; metrics.annotations works without %s" $hint) }}
{{- end }}
{{- if and $values.tls.issuer (not ($apis.Has "cert-manager.io/v1")) }}
{{- fail (printf "the cluster has no cert-manager (cert-manager.io/v1), which tls.issuer needs; tls.secret works without %s" $hint) }}
{{- end }}
{{- range $stage := .lane.stages }}
{{- if and (eq "queue" (include "triptych.autoscaling-signal" (dict "lane" $.lane "stage" $stage))) (not ($apis.Has "keda.sh/v1alpha1")) }}
{{- fail (printf "the cluster has no KEDA (keda.sh/v1alpha1), which %s.autoscaling.signal queue needs; signal cpu works without %s" $stage $hint) }}
{{- end }}
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
