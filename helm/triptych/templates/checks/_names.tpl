{{/* Names that KServe makes. Arguments: root, lane. */}}

{{/* KServe starts no pod of an InferenceService whose host name has a label of more than 63 characters, even if nothing
uses that host name. Knative mode has host names of Knative, with the namespace in a label of its own. */}}
{{- define "triptych.check-host-names" -}}
{{- $domain := dict "Namespace" .root.Release.Namespace "IngressDomain" "example.com" "Annotations" dict "Labels" dict -}}
{{- $longest := "" -}}
{{- range $stage := .lane.stages -}}
{{- if has (index $.lane.modes $stage) (list "Standard" "Grouped") -}}
{{- $name := include "triptych.deployment" (dict "lane" $.lane "stage" $stage) -}}
{{- $host := tpl $.lane.values.kserve.domainTemplate (merge (dict "Name" $name "Template" $.root.Template) $domain) -}}
{{- range splitList "." $host }}{{ if gt (len .) (len $longest) }}{{ $longest = . }}{{ end }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if gt (len $longest) 63 }}
{{- fail (printf "KServe makes a host name with the label %s, which has %d characters; more than 63 are not allowed, so no pod would start: install into a namespace with a name that is shorter by %d, shorten fullnameOverride, or use mode: Deployment. If KServe's ingress.domainTemplate is not the default, repeat it in kserve.domainTemplate" $longest (len $longest) (sub (len $longest) 63)) }}
{{- end }}
{{- end }}
