{{/* The values that each stage has. Arguments of each: root, lane, stage. */}}

{{- define "triptych.check-autoscaling" -}}
{{- $values := index .lane.values .stage -}}
{{- $path := include "triptych.path" . -}}
{{- $mode := index .lane.modes .stage -}}
{{- if $values.autoscaling }}
{{- $signal := $values.autoscaling.signal -}}
{{- if and (eq 0 (int $values.replicas)) (ne $mode "Knative") (ne $signal "parts") }}
{{- fail (printf "%s.replicas is 0, and only Knative mode starts a pod for a request; its mode is %s" $path $mode) }}
{{- end }}
{{- if and (eq 0 (int $values.replicas)) (eq 0 (int $values.autoscaling.maxReplicas)) }}
{{- fail (printf "%s.replicas and %s.autoscaling.maxReplicas are both 0" $path $path) }}
{{- end }}
{{- if and (eq $mode "Knative") (has $signal (list "cpu" "queue")) }}
{{- fail (printf "%s.autoscaling.signal is %s, and in Knative mode replicas follow concurrency" $path $signal) }}
{{- end }}
{{- if and (ne $mode "Knative") (eq ($signal | default "") "concurrency") }}
{{- fail (printf "%s.autoscaling.signal is concurrency, which is Knative's, and the mode of %s is %s; cpu and queue work there" $path $path $mode) }}
{{- end }}
{{- if and (eq "queue" (include "triptych.autoscaling-signal" .)) (not .lane.values.metrics.prometheus) }}
{{- fail (printf "%s.autoscaling.signal is queue and metrics.prometheus is empty: give the address of the Prometheus that KEDA asks" $path) }}
{{- end }}
{{- end }}
{{- end }}

{{/* After the grace period Kubernetes kills the pod, and with it the calls in flight. */}}
{{- define "triptych.check-shutdown" -}}
{{- $shutdown := (index .lane.values .stage).shutdown -}}
{{- $needed := addf (float64 $shutdown.preStopSeconds) (float64 ($shutdown.drainSeconds | default 0)) (float64 $shutdown.graceSeconds) -}}
{{- $release := ternary 10 0 (hasPrefix "jobs" .stage) -}}
{{- $needed = addf $needed $release -}}
{{- if gt $needed (float64 $shutdown.terminationGracePeriodSeconds) }}
{{- fail (printf "%s.shutdown: preStopSeconds, drainSeconds and graceSeconds add up to %v s%s, and terminationGracePeriodSeconds is %v: raise it, or calls in flight are cut" (include "triptych.path" .) $needed (ternary " with the 10 s in which parts are given back" "" (gt $release 0)) $shutdown.terminationGracePeriodSeconds) }}
{{- end }}
{{- end }}

{{- define "triptych.check-settings" -}}
{{- $reserved := list "host" "port" "metrics_port" "otlp_endpoint" "triton_key" "tls_cert" "tls_key" "tls_client_ca" "upstream_ca" "upstream_cert" "upstream_key" "replica_name" "ledger" -}}
{{- $settings := dict -}}
{{- if eq .stage "backend" -}}
{{- $reserved = list "host" "port" "jwt_key" "features" "articles" "preprocess_ca" "preprocess_cert" "preprocess_key" -}}
{{- $settings = include "triptych.backend-settings" . | fromJson -}}
{{- else if ne .stage "predictor" -}}
{{- $settings = include "triptych.chart-settings" . | fromJson -}}
{{- end -}}
{{- range $name, $value := (index .lane.values .stage).settings }}
{{- if or (hasKey $settings $name) (has $name $reserved) }}
{{- fail (printf "%s.settings.%s: the chart sets this itself; leave it out" (include "triptych.path" $) $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Two variables of one name make a Deployment that cannot be upgraded. */}}
{{- define "triptych.check-env" -}}
{{- $own := list -}}
{{- range include (printf "triptych.%s-env" .stage) . | fromYamlArray }}{{ $own = append $own .name }}{{ end -}}
{{- range (index .lane.pods .stage).extraEnv }}
{{- if has .name $own }}
{{- fail (printf "extraEnv of %s has %s, which the chart sets itself: leave it out, or set the value that it comes from" (include "triptych.path" $) .name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Selectors find pods by these labels. Arguments: root, lane, component. */}}
{{- define "triptych.check-labels" -}}
{{- $own := include "triptych.own-labels" . | fromYaml -}}
{{- range $name, $value := .lane.values.commonLabels }}
{{- if hasKey $own $name }}
{{- fail (printf "commonLabels has %s, which the chart sets itself: leave it out" $name) }}
{{- end }}
{{- end }}
{{- $selected := append (include "triptych.selector" . | fromYaml | keys) "triptych.dev/release" -}}
{{- range $name, $value := (index .lane.pods .component).podLabels }}
{{- if has $name $selected }}
{{- fail (printf "podLabels of %s has %s, which the chart sets itself and selects pods by: leave it out" $.component $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A volume that is mounted has to exist, and no two may have one name or one path. Arguments: root, lane, component. */}}
{{- define "triptych.check-volumes" -}}
{{- $own := list -}}
{{- range include (printf "triptych.%s-volumes" .component) . | fromYamlArray }}{{ $own = append $own .name }}{{ end -}}
{{- $known := $own -}}
{{- range (index .lane.pods .component).extraVolumes }}
{{- if has .name $own }}
{{- fail (printf "extraVolumes of %s has %s, which is a volume of the chart: give it another name" $.component .name) }}
{{- end }}
{{- $known = append $known .name }}
{{- end }}
{{- range $stage := ternary (list "preprocess" "predictor") (list .component) (eq .component "grouped") }}
{{- $paths := list -}}
{{- range include (printf "triptych.%s-mounts" $stage) $ | fromYamlArray }}{{ $paths = append $paths .mountPath }}{{ end -}}
{{- range (index $.lane.pods $stage).extraVolumeMounts }}
{{- if has .mountPath $paths }}
{{- fail (printf "extraVolumeMounts of %s has %s, where the chart mounts a volume of its own: choose another path" $stage .mountPath) }}
{{- end }}
{{- if not (has .name $known) }}
{{- fail (printf "extraVolumeMounts of %s mounts %s, which is not a volume of its pod: add it to extraVolumes" $stage .name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
