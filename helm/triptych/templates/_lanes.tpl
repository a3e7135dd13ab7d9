{{/*
Lanes. The stable lane is the chart's own root. That of the canary has the canary's values over the stable ones, and in
`Lane` the stages that it has of its own. Templates of a stage take the root of a lane; names, labels and addresses that
are made with it are those of the lane, and where it has no stage of its own, the stable ones.
*/}}

{{/* Sets `Lanes` of the root: the stable one, and the canary where there is one. */}}
{{- define "triptych.lanes" -}}
{{- $lanes := list . -}}
{{- if .Values.canary.enabled -}}
{{- $values := deepCopy .Values -}}
{{- range list "preprocess" "predictor" "postprocess" "models" -}}
{{- $_ := set $values . (mergeOverwrite (index $values .) (index $values.canary .)) -}}
{{- end -}}
{{- /* Without a lease, one replica leads. */ -}}
{{- $_ := set $values.controller "replicas" 1 -}}
{{- $stages := splitList " " (include "triptych.lane-stages" .) -}}
{{- $lanes = append $lanes (merge (dict "Values" $values "Lane" $stages) (omit . "Values" "Lanes")) -}}
{{- end -}}
{{- $_ := set . "Lanes" $lanes -}}
{{- end }}

{{/* The stages of the canary's own. In Knative mode its preprocess is a revision of the stable one. */}}
{{- define "triptych.lane-stages" -}}
{{- $canary := .Values.canary -}}
{{- if ne (include "triptych.mode" (list . "preprocess")) "Knative" }}preprocess {{ end -}}
{{- if $canary.postprocess }}postprocess {{ end -}}
{{- if or $canary.predictor $canary.models $canary.servedModels }}predictor controller{{ end -}}
{{- end }}

{{/* Not empty when a lane runs a stage of its own: (list $lane stage). */}}
{{- define "triptych.runs" -}}
{{- $nowhere := and (eq (index . 1) "postprocess") (include "triptych.in-process" (index . 0)) -}}
{{- if and (not $nowhere) (or (not (index . 0).Lane) (has (index . 1) (index . 0).Lane)) }}true{{ end }}
{{- end }}

{{/* What a lane adds to the names of what is its own: (list $lane name), the name beginning with that of a stage. */}}
{{- define "triptych.suffix" -}}
{{- if has (splitList "-" (index . 1) | first) ((index . 0).Lane | default list) }}-canary{{ end }}
{{- end }}

{{/* How a value is called in values.yaml: (list $lane stage). */}}
{{- define "triptych.said" -}}
{{ ternary "canary." "" (not (not (index . 0).Lane)) }}{{ index . 1 }}
{{- end }}

{{- define "triptych.check-canary" -}}
{{- $canary := .Values.canary -}}
{{- if $canary.enabled }}
{{- if eq .Values.mode "Grouped" }}
{{- fail "canary.enabled is true and mode is Grouped: a group has no lanes; the other modes do" }}
{{- end }}
{{- if not (or $canary.preprocess $canary.predictor $canary.postprocess $canary.models $canary.servedModels) }}
{{- fail "canary.enabled is true and nothing differs: set what does below canary.preprocess, predictor, postprocess, models or servedModels" }}
{{- end }}
{{- if and (ne (include "triptych.mode" (list . "preprocess")) "Knative") (not .Values.gateway.enabled) }}
{{- fail "canary.enabled is true and gateway.enabled is false: the split is made by the GRPCRoute, so callers have to come through a Gateway" }}
{{- end }}
{{- if and $canary.postprocess (include "triptych.in-process" .) }}
{{- fail "canary.postprocess is set and postprocess.mode is InProcess: preprocess does its work, so canary.preprocess.image has the code of both" }}
{{- end }}
{{- if and $canary.models (not $canary.postprocess) (not (include "triptych.in-process" .)) }}
{{- fail "canary.models is set and canary.postprocess is not: a version's contract is read from the lane's own models, so the lane needs a postprocess of its own (canary.postprocess.replicas: 1 is enough)" }}
{{- end }}
{{- range $stage := list "preprocess" "predictor" "postprocess" }}
{{- if (index $canary $stage).mode }}
{{- fail (printf "canary.%s.mode: a lane runs in the modes of the stable one; leave it out" $stage) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
