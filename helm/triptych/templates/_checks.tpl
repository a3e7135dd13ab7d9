{{/* What the schema cannot say: contradictions between values, and what the cluster lacks. Each ends with a sentence. */}}

{{/* The stages that have processes. */}}
{{- define "triptych.stages" -}}
preprocess predictor{{ if not (include "triptych.in-process" .) }} postprocess{{ end }}
{{- end }}

{{- define "triptych.check" -}}
{{- include "triptych.check-modes" . }}
{{- include "triptych.check-cluster" . }}
{{- include "triptych.check-grouped" . }}
{{- include "triptych.check-in-process" . }}
{{- include "triptych.check-network" . }}
{{- include "triptych.check-tls" . }}
{{- include "triptych.check-canary" . }}
{{- include "triptych.check-backend" . }}
{{- include "triptych.lanes" . }}
{{- range $lane := .Lanes }}
{{- include "triptych.check-models" $lane }}
{{- include "triptych.check-gpus" $lane }}
{{- include "triptych.check-control" $lane }}
{{- range $stage := splitList " " (include "triptych.stages" $lane) }}
{{- include "triptych.check-autoscaling" (list $lane $stage) }}
{{- include "triptych.check-shutdown" (list $lane $stage) }}
{{- end }}
{{- end }}
{{- include "triptych.check-shutdown" (list . "controller") }}
{{- if and .Values.gateway.enabled (not .Values.gateway.parents) }}
{{- fail "gateway.enabled is true and gateway.parents is empty: name the Gateway that the route attaches to" }}
{{- end }}
{{- end }}

{{- define "triptych.check-modes" -}}
{{- range $stage := list "preprocess" "predictor" "postprocess" }}
{{- if and (eq $.Values.mode "Grouped") (index $.Values $stage).mode }}
{{- fail (printf "%s.mode is %s and mode is Grouped: grouped stages have no modes of their own" $stage (index $.Values $stage).mode) }}
{{- end }}
{{- end }}
{{- if and .Values.gateway.enabled (eq (include "triptych.mode" (list . "preprocess")) "Knative") }}
{{- fail "gateway.enabled is true and preprocess is in Knative mode: Knative has its own ingress; leave the gateway out" }}
{{- end }}
{{- end }}

{{/* Knative's proxies stand between a stage and its callers, so no policy of ours can tell these apart. */}}
{{- define "triptych.check-network" -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.callers (eq (include "triptych.mode" (list . "preprocess")) "Knative") }}
{{- fail "networkPolicy.callers is set and preprocess is in Knative mode, where all calls come from Knative's ingress: restrict them there" }}
{{- end }}
{{- end }}

{{- define "triptych.check-cluster" -}}
{{- $modes := list -}}
{{- range $stage := splitList " " (include "triptych.stages" .) }}{{ $modes = append $modes (include "triptych.mode" (list $ $stage)) }}{{ end -}}
{{- $apis := .Capabilities.APIVersions -}}
{{- $hint := "(helm template has no cluster to ask: give it --api-versions)" -}}
{{- if and (without $modes "Deployment") (not ($apis.Has "serving.kserve.io/v1beta1")) }}
{{- fail (printf "the cluster has no KServe (serving.kserve.io/v1beta1), which mode %s needs; mode: Deployment works without %s" .Values.mode $hint) }}
{{- end }}
{{- if and (has "Knative" $modes) (not ($apis.Has "serving.knative.dev/v1")) }}
{{- fail (printf "the cluster has no Knative Serving (serving.knative.dev/v1), which mode Knative needs; mode: Standard works without %s" $hint) }}
{{- end }}
{{- if and .Values.gateway.enabled (not ($apis.Has "gateway.networking.k8s.io/v1")) }}
{{- fail (printf "the cluster has no Gateway API (gateway.networking.k8s.io/v1), which gateway.enabled needs; without it, preprocess is reached by its Service %s" $hint) }}
{{- end }}
{{- if and .Values.gateway.enabled .Values.gateway.retries (not ($apis.Has "gateway.envoyproxy.io/v1alpha1")) }}
{{- fail (printf "the cluster has no Envoy Gateway (gateway.envoyproxy.io/v1alpha1), which gateway.retries needs; gateway.retries: 0 works without, and callers retry %s" $hint) }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not ($apis.Has "monitoring.coreos.com/v1")) }}
{{- fail (printf "the cluster has no Prometheus operator (monitoring.coreos.com/v1), which metrics.serviceMonitor.enabled needs; metrics.annotations works without %s" $hint) }}
{{- end }}
{{- range $stage := splitList " " (include "triptych.stages" .) }}
{{- if and (eq "queue" (include "triptych.autoscaled" (list $ $stage))) (not ($apis.Has "keda.sh/v1alpha1")) }}
{{- fail (printf "the cluster has no KEDA (keda.sh/v1alpha1), which %s.autoscaling.signal queue needs; signal cpu works without %s" $stage $hint) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triptych.check-models" -}}
{{- $models := .Values.models -}}
{{- if and (eq $models.store "pvc") (not $models.claim) }}
{{- fail "models.store is pvc and models.claim is empty: name the PersistentVolumeClaim that has the model repository" }}
{{- end }}
{{- if and (ne $models.store "pvc") (or $models.claim $models.path) }}
{{- fail (printf "models.claim and models.path are for models.store pvc, and the store is %s" $models.store) }}
{{- end }}
{{- if and (has $models.store (list "s3" "gs")) (not (hasPrefix (printf "%s://" $models.store) $models.uri)) }}
{{- fail (printf "models.store is %s: models.uri has to begin with %s://, got %q" $models.store $models.store $models.uri) }}
{{- end }}
{{- range $name := list "uri" "endpoint" "region" "secret" "accountAnnotations" }}
{{- if and (get $models $name) (not (has $models.store (list "s3" "gs"))) }}
{{- fail (printf "models.%s is for models.store s3 and gs, and the store is %s" $name $models.store) }}
{{- end }}
{{- end }}
{{- if and $models.region (eq $models.store "gs") }}
{{- fail "models.region is for models.store s3, and the store is gs" }}
{{- end }}
{{- end }}

{{- define "triptych.check-control" -}}
{{- $control := .Values.predictor.modelControl -}}
{{- if and $control.secret (not $control.restricted) }}
{{- fail "predictor.modelControl.secret is set and predictor.modelControl.restricted is false: without a restriction there is no key" }}
{{- end }}
{{- end }}

{{- define "triptych.check-gpus" -}}
{{- if and (gt (int .Values.predictor.gpus) 0) (contains "triton-cpu" .Values.predictor.image) }}
{{- fail (printf "predictor.gpus is %d and predictor.image is triton-cpu, which uses none; values-gpu.yaml names NVIDIA's image" (int .Values.predictor.gpus)) }}
{{- end }}
{{- end }}

{{/* A group has one number of replicas: that of preprocess. */}}
{{- define "triptych.check-grouped" -}}
{{- $values := .Values.predictor }}
{{- if and (eq .Values.mode "Grouped") (or (ne 1 (int $values.replicas)) (ne 1 (int $values.autoscaling.maxReplicas))) }}
{{- fail "mode is Grouped: one pod holds all stages, so preprocess.replicas and preprocess.autoscaling count, and predictor.replicas and predictor.autoscaling.maxReplicas have to be 1" }}
{{- end }}
{{- end }}

{{/* What is asked of a process that is not there. */}}
{{- define "triptych.check-in-process" -}}
{{- if include "triptych.in-process" . }}
{{- $values := .Values.postprocess }}
{{- $why := printf "%s: preprocess does the work of postprocess in its own process" (ternary "mode is Grouped" "postprocess.mode is InProcess" (eq .Values.mode "Grouped")) }}
{{- if or (ne 1 (int $values.replicas)) (ne 1 (int $values.autoscaling.maxReplicas)) }}
{{- fail (printf "%s, so preprocess.replicas and preprocess.autoscaling count, and postprocess.replicas and postprocess.autoscaling.maxReplicas have to be 1" $why) }}
{{- end }}
{{- if $values.settings }}
{{- fail (printf "%s, so postprocess.settings have no effect: leave them out, or set them below preprocess.settings" $why) }}
{{- end }}
{{- if ne $values.image "triptych/postprocess" }}
{{- fail (printf "%s, so postprocess.image is not run: leave it out; code of your own belongs into preprocess.image" $why) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triptych.check-autoscaling" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- $stage := include "triptych.said" . -}}
{{- $mode := include "triptych.mode" . -}}
{{- $signal := $values.autoscaling.signal -}}
{{- if and (eq 0 (int $values.replicas)) (ne $mode "Knative") }}
{{- fail (printf "%s.replicas is 0, and only Knative mode starts a pod for a request; its mode is %s" $stage $mode) }}
{{- end }}
{{- if and (eq 0 (int $values.replicas)) (eq 0 (int $values.autoscaling.maxReplicas)) }}
{{- fail (printf "%s.replicas and %s.autoscaling.maxReplicas are both 0" $stage $stage) }}
{{- end }}
{{- if and (eq $mode "Knative") (has $signal (list "cpu" "queue")) }}
{{- fail (printf "%s.autoscaling.signal is %s, and in Knative mode replicas follow concurrency" $stage $signal) }}
{{- end }}
{{- if and (ne $mode "Knative") (eq $signal "concurrency") }}
{{- fail (printf "%s.autoscaling.signal is concurrency, which is Knative's, and the mode of %s is %s; cpu and queue work there" $stage $stage $mode) }}
{{- end }}
{{- if and (eq "queue" (include "triptych.autoscaled" .)) (not (index . 0).Values.metrics.prometheus) }}
{{- fail (printf "%s.autoscaling.signal is queue and metrics.prometheus is empty: give the address of the Prometheus that KEDA asks" $stage) }}
{{- end }}
{{- end }}

{{/* Killed while calls are in flight is what a too short grace period does. */}}
{{- define "triptych.check-shutdown" -}}
{{- $shutdown := (index (index . 0).Values (index . 1)).shutdown -}}
{{- $needed := addf (float64 $shutdown.preStopSeconds) (float64 ($shutdown.drainSeconds | default 0)) (float64 $shutdown.graceSeconds) -}}
{{- if gt $needed (float64 $shutdown.terminationGracePeriodSeconds) }}
{{- fail (printf "%s.shutdown: preStopSeconds, drainSeconds and graceSeconds add up to %v s, and terminationGracePeriodSeconds is %v: raise it, or calls in flight are cut" (include "triptych.said" .) $needed $shutdown.terminationGracePeriodSeconds) }}
{{- end }}
{{- end }}
