{{/* The canary. Arguments: root, lane. */}}
{{- define "triptych.check-canary" -}}
{{- $values := .lane.values -}}
{{- $canary := $values.canary -}}
{{- if $canary.enabled }}
{{- if eq $values.mode "Grouped" }}
{{- fail "canary.enabled is true and mode is Grouped: a group has no lanes; the other modes do" }}
{{- end }}
{{- if not (or $canary.preprocess $canary.predictor $canary.postprocess $canary.models $canary.servedModels) }}
{{- fail "canary.enabled is true and nothing differs: set what does below canary.preprocess, predictor, postprocess, models or servedModels" }}
{{- end }}
{{- if and (ne .lane.modes.preprocess "Knative") (not $values.gateway.enabled) }}
{{- fail "canary.enabled is true and gateway.enabled is false: the split is made by the GRPCRoute, so callers have to come through a Gateway" }}
{{- end }}
{{- if and $canary.postprocess .lane.inProcess }}
{{- fail "canary.postprocess is set and postprocess.mode is InProcess: preprocess does its work, so canary.preprocess.image has the code of both" }}
{{- end }}
{{- if and $canary.models (not $canary.postprocess) (not .lane.inProcess) }}
{{- fail "canary.models is set and canary.postprocess is not: a version's contract is read from the lane's own models, so the lane needs a postprocess of its own (canary.postprocess.replicas: 1 is enough)" }}
{{- end }}
{{- range $stage := list "preprocess" "predictor" "postprocess" }}
{{- if (index $canary $stage | default dict).mode }}
{{- fail (printf "canary.%s.mode: a lane runs in the modes of the stable one; leave it out" $stage) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
