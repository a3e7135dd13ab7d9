{{/*
A template takes one dict of named arguments. Those that occur most:

  root       the root context of the chart: Release, Chart, Capabilities, Files
  lane       an element of `triptych.lanes`
  stage      preprocess, predictor, postprocess, controller, jobs, jobs-worker or backend
  component  the label of a pod: a stage, `grouped` (preprocess and Triton in one pod), `test`, `batch` or
             `readiness-hook`
*/}}

{{/*
The lanes as JSON: the stable one, and the canary if it is enabled. Argument: the root context. A lane has
  canary      whether it is the canary
  values      the values of the chart; in the canary its own over the stable ones
  modes       the mode of each stage
  inProcess   whether preprocess does the work of postprocess
  stages      the stages that this lane runs; the canary calls the stable lane for the others
  components  the pods that this lane runs
  pods        the options of each pod and of the containers of each stage (`triptych.pod-options`)
*/}}
{{- define "triptych.lanes" -}}
{{- $lanes := list (include "triptych.lane" (dict "values" .Values "canary" false) | fromJson) -}}
{{- if .Values.canary.enabled -}}
{{- $values := include "triptych.canary-values" (dict "values" .Values) | fromJson -}}
{{- $lanes = append $lanes (include "triptych.lane" (dict "values" $values "canary" true) | fromJson) -}}
{{- end -}}
{{- toJson $lanes -}}
{{- end }}

{{/* A lane as JSON. Arguments: values, canary. */}}
{{- define "triptych.lane" -}}
{{- $values := set (deepCopy .values) "jobs-worker" (include "triptych.jobs-worker-values" . | fromJson) -}}
{{- $modes := dict "controller" "Deployment" "jobs" "Deployment" "jobs-worker" "Deployment" "backend" "Deployment" -}}
{{- range list "preprocess" "predictor" "postprocess" -}}
{{- $_ := set $modes . (include "triptych.mode" (dict "values" $values "stage" .)) -}}
{{- end -}}
{{- $inProcess := or (eq $values.mode "Grouped") (eq $modes.postprocess "InProcess") -}}
{{- $own := include "triptych.lane-stages" (dict "values" $values "canary" .canary "inProcess" $inProcess "modes" $modes) -}}
{{- $stages := splitList " " $own | compact -}}
{{- $components := $stages -}}
{{- if eq $values.mode "Grouped" -}}
{{- $components = prepend (without $stages "preprocess" "predictor") "grouped" -}}
{{- end -}}
{{- $pods := dict
      "test" (include "triptych.pod-options" (dict "values" $values "stages" (list "test")) | fromJson)
      "batch" (include "triptych.pod-options" (dict "values" $values "stages" (list "batch")) | fromJson)
      "jobs-worker" (include "triptych.pod-options" (dict "values" $values "stages" (list "jobs" "jobs-worker")) | fromJson)
      "readiness-hook" (include "triptych.pod-options" (dict "values" $values "stages" (list "readinessHook")) | fromJson)
      "grouped" (include "triptych.pod-options" (dict "values" $values "stages" (list "preprocess" "predictor")) | fromJson) -}}
{{- range list "preprocess" "predictor" "postprocess" "controller" "jobs" "backend" -}}
{{- $_ := set $pods . (include "triptych.pod-options" (dict "values" $values "stages" (list .)) | fromJson) -}}
{{- end -}}
{{- toJson (dict "canary" .canary "values" $values "modes" $modes "inProcess" $inProcess
      "stages" $stages "components" $components "pods" $pods) -}}
{{- end }}

{{/* The values of the canary as JSON. With one replica of its controller there is a leader without a lease. */}}
{{- define "triptych.canary-values" -}}
{{- $values := deepCopy .values -}}
{{- range list "preprocess" "predictor" "postprocess" "models" -}}
{{- $_ := set $values . (mergeOverwrite (index $values .) (index $values.canary . | default dict)) -}}
{{- end -}}
{{- $_ := set $values.controller "replicas" 1 -}}
{{- toJson $values -}}
{{- end }}

{{/* The stages that a lane runs. In Knative mode the canary's preprocess is a revision of the stable one. */}}
{{- define "triptych.lane-stages" -}}
{{- $canary := .values.canary -}}
{{- $stages := list -}}
{{- if not .canary -}}
{{- $stages = list "preprocess" "predictor" "postprocess" "controller" -}}
{{- if .values.jobs.enabled }}{{ $stages = append $stages "jobs" }}{{ end -}}
{{- if and .values.jobs.enabled (include "triptych.jobs-workers-are-apart" .) }}{{ $stages = append $stages "jobs-worker" }}{{ end -}}
{{- if .values.backend.enabled }}{{ $stages = append $stages "backend" }}{{ end -}}
{{- if .inProcess }}{{ $stages = without $stages "postprocess" }}{{ end -}}
{{- else -}}
{{- if ne .modes.preprocess "Knative" }}{{ $stages = append $stages "preprocess" }}{{ end -}}
{{- if and $canary.postprocess (not .inProcess) }}{{ $stages = append $stages "postprocess" }}{{ end -}}
{{- if or $canary.predictor $canary.models $canary.servedModels }}{{ $stages = concat $stages (list "predictor" "controller") }}{{ end -}}
{{- end -}}
{{- join " " $stages -}}
{{- end }}

{{/* The mode of a stage: Standard, Knative, Grouped, Deployment or InProcess. Arguments: values, stage. */}}
{{- define "triptych.mode" -}}
{{- $own := (index .values .stage).mode -}}
{{- if eq .values.mode "Grouped" }}Grouped
{{- else if $own }}{{ $own }}
{{- else if and (eq .stage "predictor") (eq .values.mode "Knative") }}Standard
{{- else }}{{ .values.mode }}
{{- end }}
{{- end }}

{{/*
The options that a pod has from the top of the values and from its stages, as JSON. Of a mapping's keys and of a list's
entries with the same name the last one wins: the stage's over the top's. Arguments: values, stages.
*/}}
{{- define "triptych.pod-options" -}}
{{- $layers := list .values -}}
{{- range .stages }}{{ $layers = append $layers (index $.values .) }}{{ end -}}
{{- $options := dict -}}
{{- range $key := list "nodeSelector" "affinity" "podAnnotations" "podLabels" -}}
{{- $merged := ternary (deepCopy ($.values.commonLabels | default dict)) dict (eq $key "podLabels") -}}
{{- range $layer := $layers }}{{ range $name, $value := index $layer $key }}{{ $_ := set $merged $name $value }}{{ end }}{{ end -}}
{{- $_ := set $options $key $merged -}}
{{- end -}}
{{- $annotations := dict -}}
{{- range $layer := $layers }}{{ range $name, $value := ($layer.serviceAccount | default dict).annotations }}{{ $_ := set $annotations $name $value }}{{ end }}{{ end -}}
{{- $_ := set $options "accountAnnotations" $annotations -}}
{{- $tolerations := list -}}
{{- range $layer := $layers }}{{ $tolerations = concat $tolerations ($layer.tolerations | default list) }}{{ end -}}
{{- $_ := set $options "tolerations" (uniq $tolerations) -}}
{{- range $key, $identity := dict "extraEnv" "name" "extraVolumes" "name" "extraVolumeMounts" "mountPath" -}}
{{- $names := list -}}
{{- $entries := dict -}}
{{- range $layer := $layers }}{{ range $entry := index $layer $key -}}
{{- $names = append $names (index $entry $identity) -}}
{{- $_ := set $entries (index $entry $identity) $entry -}}
{{- end }}{{ end -}}
{{- $merged := list -}}
{{- range uniq $names }}{{ $merged = append $merged (index $entries .) }}{{ end -}}
{{- $_ := set $options $key $merged -}}
{{- end -}}
{{- toJson $options -}}
{{- end }}
