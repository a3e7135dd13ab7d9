{{/* Models and Triton. Arguments of each: root, lane. */}}

{{- define "triptych.check-models" -}}
{{- $models := .lane.values.models -}}
{{- if and (eq $models.store "pvc") (not $models.claim) }}
{{- fail "models.store is pvc and models.claim is empty: name the PersistentVolumeClaim that has the model repository" }}
{{- end }}
{{- if and (ne $models.store "pvc") (or $models.claim $models.path) }}
{{- fail (printf "models.claim and models.path are for models.store pvc, and the store is %s" $models.store) }}
{{- end }}
{{- if and (has $models.store (list "s3" "gs")) (not (hasPrefix (printf "%s://" $models.store) ($models.uri | default ""))) }}
{{- fail (printf "models.store is %s: models.uri has to begin with %s://, got %q" $models.store $models.store ($models.uri | default "")) }}
{{- end }}
{{- range $name, $value := dict "uri" $models.uri "endpoint" $models.endpoint "region" $models.region "secret" $models.secret "ca.secret" $models.ca.secret "ca.configMap" $models.ca.configMap "proxy" $models.proxy }}
{{- if and $value (not (has $models.store (list "s3" "gs"))) }}
{{- fail (printf "models.%s is for models.store s3 and gs, and the store is %s" $name $models.store) }}
{{- end }}
{{- end }}
{{- if and $models.ca.secret $models.ca.configMap }}
{{- fail (printf "models.ca.secret is %s and models.ca.configMap is %s: name the one that has the authorities" $models.ca.secret $models.ca.configMap) }}
{{- end }}
{{- range .lane.values.servedModels }}
{{- if .release }}
{{- fail (printf "servedModels has release %s for %s: the chart sets it to fullnameOverride; leave it out" .release .model) }}
{{- end }}
{{- end }}
{{- if and $models.region (eq $models.store "gs") }}
{{- fail "models.region is for models.store s3, and the store is gs" }}
{{- end }}
{{- end }}

{{- define "triptych.check-model-control" -}}
{{- $control := .lane.values.predictor.modelControl -}}
{{- if and $control.secret (not $control.restricted) }}
{{- fail "predictor.modelControl.secret is set and predictor.modelControl.restricted is false: without a restriction there is no key" }}
{{- end }}
{{- end }}

{{- define "triptych.check-gpus" -}}
{{- $predictor := .lane.values.predictor -}}
{{- if and (gt (int $predictor.gpus) 0) (contains "triton-cpu" $predictor.image) }}
{{- fail (printf "predictor.gpus is %d and predictor.image is triton-cpu, which uses none; values-gpu.yaml names NVIDIA's image" (int $predictor.gpus)) }}
{{- end }}
{{- end }}
