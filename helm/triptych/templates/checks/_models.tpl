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
{{- if and $models.region (eq $models.store "gs") }}
{{- fail "models.region is for models.store s3, and the store is gs" }}
{{- end }}
{{- end }}

{{/* What the API server would refuse when the rest of the release is there. */}}
{{- define "triptych.check-served-models" -}}
{{- $key := ternary "canary.servedModels" "servedModels" .lane.canary -}}
{{- $names := list -}}
{{- range ternary .lane.values.canary.servedModels .lane.values.servedModels .lane.canary | default list }}
{{- if .release }}
{{- fail (printf "%s has release %s for %s: the chart sets it to fullnameOverride; leave it out" $key .release .model) }}
{{- end }}
{{- $name := .model | replace "_" "-" -}}
{{- if has $name $names }}
{{- fail (printf "%s has %s more than once, where - and _ are the same: give it one entry with all its versions" $key .model) }}
{{- end }}
{{- $names = append $names $name -}}
{{- $sum := 0 -}}
{{- $versions := list -}}
{{- range .traffic }}
{{- $sum = add $sum (int .percent) -}}
{{- $versions = append $versions (int64 .version | toString) -}}
{{- end }}
{{- if ne (int $sum) 100 }}
{{- fail (printf "%s: the percents of %s have to sum to 100, got %d" $key .model (int $sum)) }}
{{- end }}
{{- if ne (len $versions) (len (uniq $versions)) }}
{{- fail (printf "%s: %s has a version more than once: %s" $key .model (join ", " $versions)) }}
{{- end }}
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
