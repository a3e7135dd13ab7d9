{{/* The object store of the models: keys, authorities and proxy of its readers, the mirror and the controller. */}}

{{/* The options of a reader as JSON: secret, ca, proxy and max_objects, those that are set. Argument: lane. */}}
{{- define "triptych.store-options" -}}
{{- $models := .lane.values.models -}}
{{- $options := dict -}}
{{- if include "triptych.models-are-mirrored" . -}}
{{- if $models.secret }}{{ $_ := set $options "secret" "/store/secret" }}{{ end -}}
{{- if or $models.ca.secret $models.ca.configMap }}{{ $_ := set $options "ca" (printf "/store/ca/%s" $models.ca.key) }}{{ end -}}
{{- if $models.proxy }}{{ $_ := set $options "proxy" $models.proxy }}{{ end -}}
{{- if $models.maxObjects }}{{ $_ := set $options "max_objects" ($models.maxObjects | int64 | toString) }}{{ end -}}
{{- end -}}
{{- toJson $options -}}
{{- end }}

{{/* The mounts of a reader. Kubernetes renews the files of a whole volume, not those of a subPath. Argument: lane. */}}
{{- define "triptych.store-mounts" -}}
{{- range $name := omit (include "triptych.store-options" . | fromJson) "proxy" "max_objects" | keys | sortAlpha }}
- {name: store-{{ $name }}, mountPath: /store/{{ $name }}, readOnly: true}
{{- end }}
{{- end }}

{{/* The volumes of a pod with a reader. Argument: lane. */}}
{{- define "triptych.store-volumes" -}}
{{- $models := .lane.values.models -}}
{{- $options := include "triptych.store-options" . | fromJson -}}
{{- if $options.secret }}
- {name: store-secret, secret: {secretName: {{ $models.secret | quote }}}}
{{- end }}
{{- if $options.ca }}
{{- if $models.ca.secret }}
- {name: store-ca, secret: {secretName: {{ $models.ca.secret | quote }}, items: [{key: {{ $models.ca.key | quote }}, path: {{ $models.ca.key | quote }}}]}}
{{- else }}
- {name: store-ca, configMap: {name: {{ $models.ca.configMap | quote }}, items: [{key: {{ $models.ca.key | quote }}, path: {{ $models.ca.key | quote }}}]}}
{{- end }}
{{- end }}
{{- end }}
