{{/* What the hook waits for, as JSON: by `kind` the names of objects that it reads, and `wait`, the words of the command.
Argument: the root context. */}}
{{- define "triptych.hook-workloads" -}}
{{- $found := dict "deployments" list "inferenceservices" list "services" list "wait" list -}}
{{- range $lane := include "triptych.lanes" . | fromJsonArray -}}
{{- range $component := $lane.components -}}
{{- $stage := ternary "preprocess" $component (eq $component "grouped") -}}
{{- $mode := index $lane.modes $stage -}}
{{- $name := include "triptych.name" (dict "lane" $lane "name" $component) -}}
{{- $made := include "triptych.deployment" (dict "lane" $lane "stage" $stage) -}}
{{- $kind := ternary "services" "deployments" (eq $mode "Knative") -}}
{{- $_ := set $found $kind (append (index $found $kind) $made) -}}
{{- if ne $mode "Deployment" -}}
{{- $_ := set $found "inferenceservices" (append $found.inferenceservices $name) -}}
{{- end -}}
{{- $_ := set $found "wait" (append $found.wait (printf "%s/%s" (ternary "deployment" "inferenceservice" (eq $mode "Deployment")) $name)) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
