{{/* Modes, and stages that have no process. Arguments of each: root, lane. */}}

{{- define "triptych.check-modes" -}}
{{- $values := .lane.values -}}
{{- range $stage := list "preprocess" "predictor" "postprocess" }}
{{- if and (eq $values.mode "Grouped") (index $values $stage).mode }}
{{- fail (printf "%s.mode is %s and mode is Grouped: grouped stages have no modes of their own" $stage (index $values $stage).mode) }}
{{- end }}
{{- end }}
{{- if and $values.preprocess.rest (eq .lane.modes.preprocess "Knative") }}
{{- fail "preprocess.rest is true and preprocess runs in Knative mode, which gives a pod one port: gRPC's" }}
{{- end }}
{{- end }}

{{/* A group has one number of replicas: that of preprocess. */}}
{{- define "triptych.check-grouped" -}}
{{- $predictor := .lane.values.predictor }}
{{- if and (eq .lane.values.mode "Grouped") (or (ne 1 (int $predictor.replicas)) (ne 1 (int $predictor.autoscaling.maxReplicas))) }}
{{- fail "mode is Grouped: one pod holds all stages, so preprocess.replicas and preprocess.autoscaling count, and predictor.replicas and predictor.autoscaling.maxReplicas have to be 1" }}
{{- end }}
{{- end }}

{{- define "triptych.check-in-process" -}}
{{- if .lane.inProcess }}
{{- $values := .lane.values.postprocess }}
{{- $why := printf "%s: preprocess does the work of postprocess in its own process" (ternary "mode is Grouped" "postprocess.mode is InProcess" (eq .lane.values.mode "Grouped")) }}
{{- if or (ne 1 (int $values.replicas)) (ne 1 (int $values.autoscaling.maxReplicas)) }}
{{- fail (printf "%s, so preprocess.replicas and preprocess.autoscaling count, and postprocess.replicas and postprocess.autoscaling.maxReplicas have to be 1" $why) }}
{{- end }}
{{- if $values.settings }}
{{- fail (printf "%s, so postprocess.settings have no effect: leave them out, or set them below preprocess.settings" $why) }}
{{- end }}
{{- if ne $values.image "triptych/postprocess" }}
{{- fail (printf "%s, so postprocess.image is not run: leave it out; code of your own belongs into preprocess.image" $why) }}
{{- end }}
{{- range $key := list "nodeSelector" "affinity" "tolerations" "podAnnotations" "podLabels" "extraEnv" "extraVolumes" "extraVolumeMounts" }}
{{- if index $values $key }}
{{- fail (printf "%s, so postprocess.%s has no pod: leave it out, or set preprocess.%s" $why $key $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
