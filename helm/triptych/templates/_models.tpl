{{/* The model repository, in the volume `models` of the predictor and of the controller. */}}

{{/* Not empty for an object store. */}}
{{- define "triptych.models-are-mirrored" -}}
{{- if has .Values.models.store (list "s3" "gs") }}true{{ end }}
{{- end }}

{{/* Where Triton finds them. A mirror is a folder within the mount, because versions come by renaming. */}}
{{- define "triptych.models-folder" -}}
{{ ternary "/models/mirror" "/models" (not (not (include "triptych.models-are-mirrored" .))) }}
{{- end }}

{{- define "triptych.models-mount" -}}
{{- $path := ternary .Values.models.path "" (eq .Values.models.store "pvc") -}}
- {name: models, mountPath: /models, readOnly: true{{ with $path }}, subPath: {{ . }}{{ end }}}
{{- end }}

{{- define "triptych.models-volume" -}}
{{- if eq .Values.models.store "pvc" -}}
- {name: models, persistentVolumeClaim: {claimName: {{ .Values.models.claim }}, readOnly: true}}
{{- else -}}
- {name: models, emptyDir: {}}
{{- end }}
{{- end }}

{{/* Fills the folder of a Triton before it starts, and keeps it in step. */}}
{{- define "triptych.models-init" -}}
{{- if include "triptych.models-are-mirrored" . }}
initContainers:
  - {{ include "triptych.mirror" (list . "models" "--once") | indent 4 | trim }}
  # Beside Triton, as long as the pod lives.
  - {{ include "triptych.mirror" (list . "mirror" (printf "--every=%ds" (int .Values.models.everySeconds))) | indent 4 | trim }}
    restartPolicy: Always
{{- else }}
{{- include "triptych.models-copy" . }}
{{- end }}
{{- end }}

{{/* Copies the models out of their image, before anything else starts. */}}
{{- define "triptych.models-copy" -}}
{{- if eq .Values.models.store "image" }}
initContainers:
  - name: models
    image: {{ include "triptych.image" (list . .Values.models.image) }}
    command: [cp, -R, /models/., /target]
    imagePullPolicy: {{ .Values.imagePullPolicy }}
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 1Gi}
    securityContext:
      {{- include "triptych.container-security" . | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /target}
{{- end }}
{{- end }}

{{/* Brings the models of a store into the folder of a Triton: (list $ name option). */}}
{{- define "triptych.mirror" -}}
{{- $root := index . 0 -}}
name: {{ index . 1 }}
image: {{ include "triptych.image" (list $root $root.Values.controller.image) }}
imagePullPolicy: {{ $root.Values.imagePullPolicy }}
command: [triptych]
args: [mirror, {{ $root.Values.models.uri | quote }}, {{ include "triptych.models-folder" $root }}, --whole, {{ index . 2 }}]
{{- with include "triptych.store-environment" $root | trim }}
env:
  {{- . | nindent 2 }}
{{- end }}
{{- include "triptych.store-keys" $root }}
terminationMessagePolicy: FallbackToLogsOnError
resources:
  requests: {cpu: 10m, memory: 64Mi}
  limits: {memory: 512Mi}
securityContext:
  {{- include "triptych.container-security" $root | nindent 2 }}
volumeMounts:
  - {name: models, mountPath: /models}
{{- end }}

{{/* Where a store is ... */}}
{{- define "triptych.store-environment" -}}
{{- with .Values.models.endpoint }}
- {name: {{ ternary "AWS_ENDPOINT_URL" "GOOGLE_BASE_URL" (eq $.Values.models.store "s3") }}, value: {{ . | quote }}}
{{- end }}
{{- with .Values.models.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* ... and who asks. */}}
{{- define "triptych.store-keys" -}}
{{- with .Values.models.secret }}
envFrom:
  - secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* What the controller reads of them: of a store, the contracts alone. */}}
{{- define "triptych.models-settings" -}}
{{- if include "triptych.models-are-mirrored" . -}}
{{- $settings := dict "model_repository" .Values.models.uri "mirror" "/models/contracts" "poll_s" .Values.models.everySeconds -}}
{{- if not (hasKey .Values.controller.settings "failure_ttl_s") }}{{ $_ := set $settings "failure_ttl_s" .Values.models.everySeconds }}{{ end -}}
{{- toJson $settings }}
{{- else -}}
{{- toJson (dict "model_repository" "/models") }}
{{- end }}
{{- end }}
